"""Facts in a file: a .csv with a header or a .jsonl, one fact a row."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn_cli.config import shown
from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds import lines
from unlearn_cli.worlds.vocabulary import CUT_OUT

FIELDS = ("subject", "relation", "object")
TEMPLATE = "template"
TOLD = 10  # problems told in full

Values = Iterator[tuple[int, Mapping[str, Any]]]  # line, what stands in it


@dataclass(frozen=True)
class Row:
    """One fact as written; texts have one blank for each run of whitespace and composed characters (NFC)."""

    line: int
    subject: str
    relation: str
    object: str
    template: str | None


@dataclass(frozen=True)
class TriplesFile:
    """The rows of a file in which nothing is wrong by itself."""

    rows: list[Row]
    sha256: str  # of its bytes


class Problems:
    """What is wrong with a file, line by line."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.found: list[tuple[int, str]] = []

    def add(self, line: int, what: str) -> None:
        """Note a problem; lines count from 1."""
        self.found.append((line, what))

    def raise_any(self) -> None:
        """Raise a ConfigError if there are any: the first ones in order of lines, then how many more."""
        found = sorted(self.found, key=lambda problem: problem[0])
        told = [f"world.path: {self.path}:{line}: {what}" for line, what in found[:TOLD]]
        if len(found) > TOLD:
            told.append(f"world.path: {self.path}: {len(found) - TOLD} more problems")
        if told:
            raise ConfigError(told)


def read(path: str) -> TriplesFile:
    """Read every row; a ConfigError if the file cannot be read or any of its lines is no fact."""
    kind = Path(path).suffix.lower()
    if kind not in _READERS:
        given = f"a {kind} file" if kind else "a file without suffix"
        raise _refused(path, f"{given} given; expected {' or '.join(_READERS)}")
    try:
        content = Path(path).expanduser().read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        raise _refused(path, getattr(error, "strerror", None) or str(error)) from None
    problems = Problems(path)
    values = _READERS[kind](_decoded(content, problems), problems)
    rows = [_row(line, found, problems) for line, found in values]
    problems.raise_any()
    if not rows:
        raise _refused(path, "no fact in it")
    return TriplesFile(rows, hashlib.sha256(content).hexdigest())


def _refused(path: str, what: str) -> ConfigError:
    return ConfigError([f"world.path: {path}: {what}"])


def _decoded(content: bytes, problems: Problems) -> str:
    try:
        return lines.decoded(content)
    except lines.NotUTF8 as error:
        problems.add(error.line, str(error))
        problems.raise_any()
        raise


def _csv_rows(text: str, problems: Problems) -> Values:
    def check(line: int, header: list[str]) -> None:
        _check_header(line, header, problems)
        problems.raise_any()

    yield from lines.csv_rows(text, problems.add, check)


def _check_header(line: int, header: list[str], problems: Problems) -> None:
    for name in FIELDS:
        if name not in header:
            problems.add(line, f"no column {name}; columns here: {', '.join(header)}")
    for name in (*FIELDS, TEMPLATE):
        if header.count(name) > 1:
            problems.add(line, f"{header.count(name)} columns {name}; expected one")


def _jsonl_rows(text: str, problems: Problems) -> Values:
    # Numbers stay as written; NaN, which some write for what is missing, is no value.
    parsing = {"parse_int": str, "parse_float": str, "parse_constant": lambda _: None}
    for line, found in lines.json_lines(text, problems.add, **parsing):
        if isinstance(found, dict):
            yield line, found
        else:
            problems.add(line, 'no JSON object; expected {"subject": ..., "relation": ..., "object": ...}')


_READERS: dict[str, Callable[[str, Problems], Values]] = {".csv": _csv_rows, ".jsonl": _jsonl_rows}


def _row(line: int, values: Mapping[str, Any], problems: Problems) -> Row:
    """The fact of a line; what is wrong with it goes to `problems`."""
    texts = {name: _text(line, name, values, problems) for name in FIELDS}
    has_template = values.get(TEMPLATE) not in (None, "")
    return Row(line, **texts, template=_text(line, TEMPLATE, values, problems) if has_template else None)


def _text(line: int, name: str, values: Mapping[str, Any], problems: Problems) -> str:
    """A value as a text of which a name can be made; what is wrong with it goes to `problems`."""
    if name not in values:
        problems.add(line, f"no key {name}; keys here: {', '.join(values) or 'none'}")
        return ""
    value = values[name]
    if not isinstance(value, str):
        problems.add(line, f"{name}: {shown(value)} given; expected a text or a number")
        return ""
    text = " ".join(unicodedata.normalize("NFC", value).split())
    inside = [special for special in CUT_OUT if special in text]
    if not text:
        problems.add(line, f"{name} is empty")
    elif inside:
        problems.add(line, f"{name}: '{text}' given; {inside[0]} is a token of the model's own")
    elif any("\ud800" <= character <= "\udfff" for character in text):
        problems.add(line, f"{name}: {text!a} given; half of a surrogate pair is no character")
    return text
