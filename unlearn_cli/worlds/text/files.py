"""Rows of a user's file: JSON lines, a JSON list, CSV, Parquet, or the folder of a Hugging Face dataset on disk."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds import lines

TOLD = 10  # problems told in full
Values = Mapping[str, Any]


class Problems:
    """What is wrong with a file, row by row."""

    def __init__(self, field: str, path: str) -> None:
        self.field, self.path = field, path
        self.found: list[str] = []

    def add(self, place: str, what: str) -> None:
        """Note a problem of a place, as in `row 3`."""
        self.found.append(f"{self.field}: {self.path}, {place}: {what}")

    def line(self, number: int, what: str) -> None:
        """Note a problem of a line."""
        self.add(f"line {number}", what)

    def refuse(self, what: str) -> ConfigError:
        """The error of a file that cannot be read at all."""
        return ConfigError([f"{self.field}: {self.path}: {what}"])

    def raise_any(self) -> None:
        """Raise a ConfigError if there are any: the first ones, then how many more."""
        if self.found:
            more = len(self.found) - TOLD
            rest = [f"{self.field}: {self.path}: {more} more problems"] if more > 0 else []
            raise ConfigError([*self.found[:TOLD], *rest])


@dataclass(frozen=True)
class Row:
    """A row as it stands in the file."""

    place: str  # `row 3`, or `line 3` of a file of lines
    values: Values


@dataclass(frozen=True)
class Table:
    """A file's rows, and the hash of its bytes."""

    rows: list[Row]
    sha256: str


def read_table(path: str, problems: Problems) -> Table:
    """Read every row; a ConfigError if the file cannot be read, with every row that is none."""
    place = Path(path).expanduser()
    if place.is_dir():
        return _read_folder(place, problems)
    kind = place.suffix.lower()
    if kind not in READERS:
        given = f"a {kind} file given" if kind else "there is no such folder, and a file needs a suffix"
        raise problems.refuse(f"{given}; expected {', '.join(READERS)} or a dataset folder")
    content = _content(place, problems)
    rows = list(READERS[kind](content, problems))
    problems.raise_any()
    if not rows:
        raise problems.refuse("no row in it")
    return Table(rows, hashlib.sha256(content).hexdigest())


def _content(place: Path, problems: Problems) -> bytes:
    try:
        return place.read_bytes()
    except (OSError, ValueError) as error:
        raise problems.refuse(getattr(error, "strerror", None) or str(error)) from None


def _text(content: bytes, problems: Problems) -> str:
    try:
        return lines.decoded(content)
    except lines.NotUTF8 as error:
        raise problems.refuse(f"line {error.line} is {error}") from None


def _json_rows(content: bytes, problems: Problems) -> Iterator[Row]:
    """A list of objects, or an object on each line: the first character says which."""
    text = _text(content, problems)
    if text.lstrip()[:1] != "[":
        yield from _json_lines(text, problems)
        return
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise problems.refuse(f"no JSON: {error}") from None
    for number, item in enumerate(found, 1):
        yield from _object(f"row {number}", item, problems)


def _json_lines(text: str, problems: Problems) -> Iterator[Row]:
    for line, found in lines.json_lines(text, problems.line):
        yield from _object(f"line {line}", found, problems)


def _object(place: str, found: Any, problems: Problems) -> Iterator[Row]:
    """A row of named values; a bare text is a row of the column `text`."""
    if isinstance(found, str):
        found = {"text": found}
    if isinstance(found, dict):
        yield Row(place, found)
    else:
        problems.add(place, 'no JSON object; expected one as {"question": ..., "answer": ...}')


def _csv_rows(content: bytes, problems: Problems) -> Iterator[Row]:
    for line, values in lines.csv_rows(_text(content, problems), problems.line, lambda *_: None):
        yield Row(f"line {line}", values)


def _parquet_rows(content: bytes, problems: Problems) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
    except pa.ArrowException as error:
        raise problems.refuse(f"no Parquet: {error}") from None
    yield from _numbered(table.to_pylist())


def _arrow_rows(content: bytes, problems: Problems) -> Iterator[Row]:
    """What `datasets.save_to_disk` writes."""
    import pyarrow as pa

    try:
        table = pa.ipc.open_stream(io.BytesIO(content)).read_all()
    except pa.ArrowException as error:
        raise problems.refuse(f"no Arrow stream: {error}") from None
    yield from _numbered(table.to_pylist())


def _numbered(found: list[dict[str, Any]]) -> Iterator[Row]:
    for number, values in enumerate(found, 1):
        yield Row(f"row {number}", values)


READERS: dict[str, Callable[[bytes, Problems], Iterator[Row]]] = {
    ".jsonl": _json_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}


def _read_folder(folder: Path, problems: Problems) -> Table:
    """One split of a dataset: the folder's data files in the order of their names."""
    kinds = {".arrow": _arrow_rows, **READERS}
    told = ("dataset_info.json", "state.json", "dataset_dict.json", "config.json")
    for kind, reader in kinds.items():
        files = sorted(path for path in folder.glob(f"*{kind}") if path.name not in told)
        if not files:
            continue
        sha, rows = hashlib.sha256(), []
        for path in files:
            content = _content(path, problems)
            sha.update(hashlib.sha256(content).digest())
            name = path.name if len(files) > 1 else ""
            rows += [Row(f"{name} {row.place}".strip(), row.values) for row in reader(content, problems)]
        problems.raise_any()
        if not rows:
            raise problems.refuse("no row in it")
        return Table(rows, sha.hexdigest())
    splits = sorted(path.name for path in folder.iterdir() if path.is_dir())
    advice = f"; name one of its splits: {', '.join(splits)}" if splits else ""
    raise problems.refuse(f"no {', '.join(kinds)} in the folder{advice}")
