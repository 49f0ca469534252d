"""Rows of a user's file: JSON lines, a JSON list, CSV, Parquet, or the folder of a Hugging Face dataset on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.text.formats import IN_FOLDER, READERS, Row, Unreadable
from unlearn_cli.worlds.text.items import Item

TOLD = 10  # problems told in full
BESIDE = ("dataset_info.json", "state.json", "dataset_dict.json", "config.json")  # files of a dataset without rows

Found = TypeVar("Found")
Requested = dict[tuple[str, ...], list[Item]]  # by what tells a question from others


class Problems:
    """What is wrong with a file, row by row."""

    def __init__(self, field: str, path: str, requested: Requested | None = None) -> None:
        self.field, self.path = field, path
        self.requested: Requested = {} if requested is None else requested  # of files before: the request is the first
        self.found: list[str] = []

    def add(self, place: str, what: str) -> None:
        """Note a problem of a place, as in `row 3`."""
        self.found.append(f"{self.field}: {self.path}, {place}: {what}")

    def whole(self, what: str, place: str = "") -> None:
        """Note a problem of the whole file, as a place in it shows, which is told before those of its rows."""
        self.found.insert(0, f"{self.field}: {self.path}{place and f', {place}'}: {what}")

    def refuse(self, what: str, place: str = "") -> ConfigError:
        """The error of a file that cannot be read on, with what was found in it before."""
        self.whole(what, place)
        return ConfigError(self._told())

    def raise_any(self) -> None:
        """Raise a ConfigError if there are any."""
        if self.found:
            raise ConfigError(self._told())

    def _told(self) -> list[str]:
        """The first problems, then how many more."""
        more = len(self.found) - TOLD
        return [*self.found[:TOLD], *([f"{self.field}: {self.path}: {more} more problems"] if more > 0 else [])]


@dataclass(frozen=True)
class Table:
    """A file's rows, and the hash of its bytes."""

    rows: list[Row]
    sha256: str


def read_table(path: str, problems: Problems) -> Table:
    """Read every row; a ConfigError if the file cannot be read. What is no row is noted, and the rest read on."""
    place = _tried(lambda: Path(path).expanduser(), problems)
    if _tried(place.is_dir, problems):
        return _read_folder(place, problems)
    kind = place.suffix.lower()
    if kind not in READERS:
        given = f"a {kind} file given" if kind else "there is no such folder, and a file needs a suffix"
        raise problems.refuse(f"{given}; expected {', '.join(READERS)} or a dataset folder")
    content = _tried(place.read_bytes, problems)
    try:
        rows = list(READERS[kind](content, problems.add))
    except Unreadable as error:
        raise problems.refuse(str(error)) from None
    return _table(rows, hashlib.sha256(content).hexdigest(), problems)


def _tried(read: Callable[[], Found], problems: Problems, name: str = "") -> Found:
    """What a look at the disk gives; a ConfigError with what is in its way, and the file's name in its folder."""
    try:
        return read()
    except (OSError, ValueError, RuntimeError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise problems.refuse(f"{name}: {said}" if name else said) from None


def _table(rows: list[Row], sha256: str, problems: Problems) -> Table:
    if not rows:
        problems.raise_any()
        raise problems.refuse("no row in it")
    return Table(rows, sha256)


def _read_folder(folder: Path, problems: Problems) -> Table:
    """One split of a dataset: the folder's data files in the order of their names."""
    inside = _tried(lambda: sorted(folder.iterdir()), problems)
    for kind in IN_FOLDER:
        files = [path for path in inside if path.name.endswith(kind) and path.name not in BESIDE]
        if not files:
            continue
        contents = {path.name: _tried(path.read_bytes, problems, path.name) for path in files}
        sha = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents.values()))
        rows = [row for name in contents for row in _rows_inside(name, contents, kind, problems)]
        return _table(rows, sha.hexdigest(), problems)
    splits = [path.name for path in inside if _tried(path.is_dir, problems, path.name)]
    advice = f"; name one of its splits: {', '.join(splits)}" if splits else ""
    raise problems.refuse(f"no {', '.join(IN_FOLDER)} in the folder{advice}")


def _rows_inside(name: str, contents: dict[str, bytes], kind: str, problems: Problems) -> Iterator[Row]:
    """The rows of one file of a folder, whose places name it if there are several."""
    before = f"{name} " if len(contents) > 1 else ""
    try:
        for row in IN_FOLDER[kind](contents[name], lambda place, what: problems.add(before + place, what)):
            yield replace(row, place=before + row.place)
    except Unreadable as error:
        raise problems.refuse(f"{name}: {error}") from None
