"""JSON as it is written: numbers keep their digits, and no key is lost to another of its name."""

from __future__ import annotations

from collections import Counter
from typing import Any

SHORT = 18  # digits of a number that is surely a place in a list, not a text of digits


class Twice(dict[str, Any]):
    """An object with a key that stands there twice."""

    key: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    twice = Twice(found)
    twice.key = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return twice


def _whole(written: str) -> int | str:
    """A whole number, whose place in a list may be meant; a text where Python writes it in another way, or cannot."""
    return int(written) if len(written) <= SHORT and written != "-0" else written


PARSING: dict[str, Any] = {"parse_float": str, "parse_int": _whole, "object_pairs_hook": _object}  # of `json.loads`


def repeated(found: Any) -> str | None:
    """A key that stands twice in this object or one inside it."""
    held = [found]
    while held:
        value = held.pop()
        if isinstance(value, Twice):
            return value.key
        if isinstance(value, dict | list):
            held += value.values() if isinstance(value, dict) else value
    return None


def list_inside(found: Any) -> str:
    """What to do with an object that holds the rows in a list; nothing if it holds none."""
    for name, value in found.items() if isinstance(found, dict) else ():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            return f"; the list in '{name}' must be the file itself"
    return ""
