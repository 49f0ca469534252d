"""The user's files, part by part, as items."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

from unlearn_cli.config import shown
from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.text.files import Problems, Requested, Table, read_table
from unlearn_cli.worlds.text.items import Item, Key, Part

ORDER = ("forget", "consequence", "retain", "holdout")
Reader = Callable[[Part, Table, Problems], Iterator[Item]]


def read(files: Mapping[Part, str], reader: Reader) -> tuple[list[Item], str]:
    """The items of files given by part, and a hash of all; a ConfigError with the bad rows of every file.

    Of the same prompt and answer, the first is taken, and a request before what follows from it or must stay.
    """
    if "forget" not in files:
        raise ConfigError(["world.forget: nothing given; expected the file of what is requested"])
    found: dict[Key, Item] = {}
    targets: dict[str, Item] = {}
    requested: Requested = {}
    faults: list[str] = []
    sha = hashlib.sha256()
    for part, path in files.items():
        problems = Problems(f"world.{part}", path, requested)
        try:
            table = read_table(path, problems)
            sha.update(f"{part}:{table.sha256};".encode())
            for item in sorted(reader(part, table, problems), key=lambda item: ORDER.index(item.part)):
                found.setdefault(item.key, item)
                _one_target(item, targets, problems)
            problems.raise_any()
            if not any(item.part == part for item in found.values()):
                raise problems.refuse(f"every row is also in {_before(part, files)}; nothing is left")
        except ConfigError as error:
            faults += error.problems
    if faults:
        raise ConfigError(faults)
    return list(found.values()), sha.hexdigest()


def _before(part: Part, files: Mapping[Part, str]) -> str:
    """The files that are read before the one of a part."""
    return " or ".join(f"world.{other}" for other in ORDER[: ORDER.index(part)] if other in files)


def _one_target(item: Item, targets: dict[str, Item], problems: Problems) -> None:
    """Note an item whose prompt has another target already."""
    before = targets.setdefault(item.prompt, item) if item.target else item
    if before.target != item.target:
        told = f"{shown(item.target)} given, where {before.place} says {shown(before.target)}"
        problems.found.append(f"{problems.field}: {item.place}: a second target of '{item.prompt}': {told}")
