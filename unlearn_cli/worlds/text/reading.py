"""The user's files, part by part, as items."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

from unlearn_cli.config import shown
from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.text.files import Problems, Table, read_table
from unlearn_cli.worlds.text.items import Item, Key, Part

ORDER = ("forget", "consequence", "retain", "holdout")
Reader = Callable[[Part, Table, Problems], Iterator[Item]]


def read(files: Mapping[Part, str], reader: Reader) -> tuple[list[Item], str]:
    """The items of files given by part, and a hash of all; a ConfigError with every bad row of a file.

    Of the same prompt and answer, the first is taken, and a request before what follows from it or must stay.
    """
    if "forget" not in files:
        raise ConfigError(["world.forget: nothing given; expected the file of what is requested"])
    found: dict[Key, Item] = {}
    targets: dict[str, Item] = {}
    sha = hashlib.sha256()
    for part, path in files.items():
        problems = Problems(f"world.{part}", path)
        table = read_table(path, problems)
        sha.update(f"{part}:{table.sha256};".encode())
        items = sorted(reader(part, table, problems), key=lambda item: ORDER.index(item.part))
        for item in items:
            found.setdefault(item.key, item)
            before = targets.setdefault(item.prompt, item) if item.target else item
            if before.target != item.target:
                told = f"{shown(item.target)} given, where {before.place} says {shown(before.target)}"
                problems.found.append(f"world.{part}: {item.place}: a second target of '{item.prompt}': {told}")
        problems.raise_any()
        if not any(item.part == part for item in found.values()):
            earlier = " or ".join(f"world.{other}" for other in ORDER[: ORDER.index(part)] if other in files)
            raise problems.refuse(f"every row is also in {earlier}; nothing is left")
    return list(found.values()), sha.hexdigest()
