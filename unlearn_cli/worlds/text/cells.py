"""The values of a row, read by type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from unlearn_cli.config import shown


class BadRow(ValueError):
    """What is wrong with one row."""


class Cells:
    """The values of a row, read by type."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def text(self, *names: str) -> str:
        """The text of the first of these columns that the row has."""
        name = next((name for name in names if self.values.get(name) is not None), names[0])
        if name not in self.values:
            raise BadRow(f"no {name}; columns here: {', '.join(self.values) or 'none'}")
        return text(self.values[name], name)

    def maybe(self, *names: str) -> str | None:
        """The same, or None where the row has none of them."""
        return self.text(*names) if any(self.values.get(name) not in (None, "") for name in names) else None

    def texts(self, *names: str) -> list[str]:
        """Texts of the first of these columns that the row has; one text is a list of one."""
        for name in names:
            value = self.values.get(name)
            if value in (None, ""):
                continue
            if not isinstance(value, list | tuple):
                value = [value]
            return [text(item, f"{name}[{place}]") for place, item in enumerate(value)]
        return []

    def part(self, name: str) -> Cells:
        """The values of an object that stands in a column."""
        value = self.values.get(name)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, dict):
            raise BadRow(f"{name}: {shown(value)} given; expected an object")
        return Cells(value)

    def parts(self, name: str) -> list[Cells]:
        """The values of each object of a list that stands in a column."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise BadRow(f"{name}: {shown(value)} given; expected a list of objects")
        return [Cells(item) for item in value]


def text(value: Any, name: str) -> str:
    """A value as a text that says something."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        value = str(value)
    if not isinstance(value, str):
        raise BadRow(f"{name}: {shown(value)} given; expected a text")
    if not value.strip():
        raise BadRow(f"{name} is empty")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise BadRow(f"{name}: {value!a} given; half of a surrogate pair is no character")
    return value.strip()
