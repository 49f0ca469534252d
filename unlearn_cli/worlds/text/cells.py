"""The values of a row, read by type."""

from __future__ import annotations

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from unlearn_cli.config import shown
from unlearn_cli.worlds.text import json_values

LONGEST = 1_000_000  # characters of a text: more than any model reads at once, and slow to tokenise
TOLD = 200  # characters of what was given that are told
SURROGATE = re.compile("[\ud800-\udfff]")


class BadRow(ValueError):
    """What is wrong with one row."""


class Cells:
    """The values of a row, read by type."""

    def __init__(self, values: Mapping[str, Any], *, flat: bool = False, longest: int | None = LONGEST) -> None:
        self.values = values
        self.flat = flat  # of a file that holds nothing but texts: a list stands there as it is written
        self.longest = longest
        self.asked: set[tuple[str, ...]] = set()  # names of columns that were looked for, one for another

    def text(self, *names: str) -> str:
        """The text of the first of these columns that the row has."""
        self.asked.add(names)
        name = next((name for name in names if self.values.get(name) is not None), names[0])
        if name not in self.values:
            raise self.without(name)
        return text(self.values[name], name, self.longest)

    def without(self, name: str) -> BadRow:
        """What is wrong with a row without this column."""
        return BadRow(f"no {name}; columns here: {', '.join(self.values) or 'none'}")

    def needed(self, *names: str) -> None:
        """Refuse a row that has none of these columns."""
        self.asked.add(names)
        if not any(name in self.values for name in names):
            raise self.without(" or ".join(names))

    def value(self, name: str) -> Any:
        """Whatever stands in a column; None where the row has none of that name."""
        self.asked.add((name,))
        return self.values.get(name)

    def maybe(self, *names: str) -> str | None:
        """The same, or None where the row has none of them."""
        self.asked.add(names)
        held = [name for name in names if self.values.get(name) not in (None, "")]
        return self.text(*held) if held else None

    def first(self, *names: str) -> str | None:
        """The same of columns that may hold a list, or a list of lists, of which the first text counts."""
        self.asked.add(names)
        for name in names:
            value = self._listed(name)
            while isinstance(value, list | tuple) and value:
                value = value[0]
            if value not in (None, "", [], ()):
                return text(value, name, self.longest)
        return None

    def texts(self, *names: str) -> list[str]:
        """Texts of the first of these columns that the row has; one text is a list of one."""
        self.asked.add(names)
        for name in names:
            value = self._listed(name)
            if value in (None, ""):
                continue
            if not isinstance(value, list | tuple):
                value = [value]
            return [text(item, f"{name}[{place}]", self.longest) for place, item in enumerate(value)]
        return []

    def listed(self, name: str) -> Any:
        """What stands in a column that may hold a list."""
        self.asked.add((name,))
        return self._listed(name)

    def _listed(self, name: str) -> Any:
        value = self.values.get(name)
        return written_list(value, name) if self.flat and isinstance(value, str) else value

    def part(self, name: str) -> Cells:
        """The values of an object that stands in a column."""
        value = self.value(name)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, dict):
            raise BadRow(f"{name}: {brief(value)} given; expected an object")
        return Cells(value)

    def parts(self, name: str) -> list[Cells]:
        """The values of each object of a list that stands in a column."""
        value = self.value(name)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise BadRow(f"{name}: {brief(value)} given; expected a list of objects")
        return [Cells(item) for item in value]

    def object(self, *names: str) -> dict[str, Any]:
        """The object that stands in the first of these columns that holds something; an empty one otherwise."""
        self.asked.add(names)
        value: Any = next((self.values[name] for name in names if self.values.get(name)), {})
        if not isinstance(value, dict):
            raise BadRow(f"{names[0]}: {brief(value)} given; expected an object")
        return value


def written_list(value: str, name: str) -> Any:
    """The list that a text in brackets writes in JSON or as Python does; any other text as it is."""
    value = value.strip()
    if not (value.startswith("[") and value.endswith("]")):
        return value
    try:
        return json.loads(value, **json_values.PARSING)
    except (ValueError, RecursionError):
        pass
    try:
        if not _has_lost_commas(value):
            return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        pass
    raise BadRow(f'{name}: {brief(value)} given; what stands in [] is a list of texts, as ["one", "two"]')


def _has_lost_commas(value: str) -> bool:
    """Whether texts stand side by side, as NumPy writes them: Python would read these as one."""
    kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(value).readline) if token.type != tokenize.NL]
    return (tokenize.STRING, tokenize.STRING) in pairwise(kinds)


def brief(value: Any) -> str:
    """A value as the user would type it, or how it begins."""
    said = shown(value)
    return said if len(said) <= TOLD else f"{said[:TOLD]} ... ({len(said)} characters)"


def text(value: Any, name: str, longest: int | None = LONGEST) -> str:
    """A value as a text that says something."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        value = str(value)
    if not isinstance(value, str):
        raise BadRow(f"{name}: {brief(value)} given; expected a text")
    if not value.strip():
        raise BadRow(f"{name} is empty")
    if longest is not None and len(value) > longest:
        raise BadRow(f"{name}: a text of {len(value)} characters given; expected at most {longest}")
    if found := SURROGATE.search(value):
        start = max(0, found.start() - TOLD)
        raise BadRow(f"{name}: {value[start : found.end() + TOLD]!a} given; half of a surrogate pair is no character")
    return value.strip()
