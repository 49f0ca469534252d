"""The user's files, part by part, as items."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.text.files import Problems, Table, read_table
from unlearn_cli.worlds.text.items import Item, Part

Reader = Callable[[Part, Table, Problems], Iterator[Item]]


def read(files: Mapping[Part, str], reader: Reader) -> tuple[list[Item], str]:
    """The items of files given by part, and a hash of all; a ConfigError with every bad row of a file.

    Of the same prompt and answer in one part, the first is kept; what is requested is not also kept.
    """
    if "forget" not in files:
        raise ConfigError(["world.forget: nothing given; expected the file of what is requested"])
    found: dict[tuple[Part, str, str], Item] = {}
    sha = hashlib.sha256()
    for part, path in files.items():
        problems = Problems(f"world.{part}", path)
        table = read_table(path, problems)
        sha.update(f"{part}:{table.sha256};".encode())
        for item in reader(part, table, problems):
            found.setdefault((item.part, item.prompt, item.answer), item)
        problems.raise_any()
    requested = {key[1:] for key in found if key[0] == "forget"}
    items = [item for key, item in found.items() if key[0] == "forget" or key[1:] not in requested]
    return items, sha.hexdigest()
