"""Items of files, as worlds of the user's own text read them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from unlearn_cli.worlds.text import columns
from unlearn_cli.worlds.text.items import Item
from unlearn_cli.worlds.text.reading import read


def read_items(files: Mapping[Any, str], preset: str, kind: Any) -> tuple[list[Item], str]:
    """The items of files given by part, and the hash of all."""
    return read(files, partial(columns.items, preset, kind))
