"""What stands in a file, by its format: JSON lines, a JSON list, CSV, Parquet, Arrow."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from unlearn_cli.worlds import lines
from unlearn_cli.worlds.text import json_values

OBJECT = 'expected one as {"question": ..., "answer": ...}'
OTHERS = {b"\x1f\x8b": "is compressed (gzip); unpack it"}  # by the first two bytes: what is no UTF-8
OTHERS |= dict.fromkeys((b"\xff\xfe", b"\xfe\xff"), "is UTF-16; save it as UTF-8")

Note = Callable[[str, str], None]  # (place, what is wrong there)


class Unreadable(ValueError):
    """Why a file cannot be read at all."""


@dataclass(frozen=True)
class Row:
    """A row as it stands in the file."""

    place: str  # `row 3`, or `line 3` of a file of lines
    values: Mapping[str, Any]
    flat: bool = False  # whether values are texts, whatever they mean


def _text(content: bytes) -> str:
    if content[:2] in OTHERS:
        raise Unreadable(OTHERS[content[:2]])
    try:
        return lines.decoded(content)
    except lines.NotUTF8 as error:
        raise Unreadable(f"line {error.line} is {error}") from None


def _json_rows(content: bytes, note: Note) -> Iterator[Row]:
    """A list of objects, or an object on each line: the first character says which."""
    text = _text(content)
    if text.lstrip()[:1] != "[":
        _check_lines(text)
        for line, found in lines.json_lines(text, partial(_note_line, note), **json_values.PARSING):
            yield from _object(f"line {line}", found, note)
        return
    try:
        items = json.loads(text, **json_values.PARSING)
    except (json.JSONDecodeError, RecursionError) as error:
        raise Unreadable(f"no JSON: {error}") from None
    for number, item in enumerate(items, 1):
        yield from _object(f"row {number}", item, note)


def _note_line(note: Note, line: int, what: str) -> None:
    note(f"line {line}", what)


def _check_lines(text: str) -> None:
    """Refuse an object that is written over several lines, which would be told line by line."""
    text = text.lstrip()
    first = text.partition("\n")[0].strip()
    if first[:1] != "{" or first[-1:] == "}":
        return
    try:
        found, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        found, end = None, 0
    if first == "{" or "\n" in text[:end]:
        inside = json_values.list_inside(found) if found is not None and not text[end:].strip() else ""
        raise Unreadable(f"one object over several lines; expected a list, or one object on each line{inside}")


def _object(place: str, found: Any, note: Note) -> Iterator[Row]:
    """A row of named values; a bare text is a row of the column `text`."""
    if isinstance(found, str):
        found = {"text": found}
    if not isinstance(found, dict):
        note(place, f"no JSON object; {OBJECT}")
    elif key := json_values.repeated(found):
        note(place, f"the key {key} twice in one object; expected it once")
    else:
        yield Row(place, found)


def _csv_rows(content: bytes, note: Note) -> Iterator[Row]:
    text = _text(content)
    first = next(filter(str.strip, text.split("\n")), "")
    if any("\t" in name.strip() for name in first.split(",")):
        raise Unreadable("columns are separated by tabs; separate columns by commas")
    for line, values in lines.csv_rows(text, partial(_note_line, note), lambda _, header: _check_once(header)):
        yield Row(f"line {line}", values, flat=True)


def _check_once(header: Iterable[str]) -> None:
    """Refuse a name of two columns, of which one would be lost; columns without a name are not read."""
    for name, count in Counter(header).items():
        if name and count > 1:
            raise Unreadable(f"{count} columns {name}; expected one")


def _parquet_rows(content: bytes, note: Note) -> Iterator[Row]:
    import pyarrow.parquet as pq

    yield from _arrow_table("no Parquet", lambda: pq.read_table(io.BytesIO(content)))


def _arrow_rows(content: bytes, note: Note) -> Iterator[Row]:
    """What `datasets.save_to_disk` writes."""
    import pyarrow as pa

    yield from _arrow_table("no Arrow stream", lambda: pa.ipc.open_stream(io.BytesIO(content)).read_all())


def _arrow_table(otherwise: str, read: Callable[[], Any]) -> Iterator[Row]:
    """The rows of a table; what broken bytes raise is a matter of where they are broken."""
    import pyarrow as pa

    try:
        table = read()
        table.validate(full=True)  # texts that end before they begin would be read out of other memory
        names, found = table.column_names, table.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unreadable(f"{otherwise}: {str(error).strip().partition(chr(10))[0]}") from None
    _check_once(names)
    for number, values in enumerate(found, 1):
        yield Row(f"row {number}", values)


READERS: dict[str, Callable[[bytes, Note], Iterator[Row]]] = {
    ".jsonl": _json_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}
IN_FOLDER = {".arrow": _arrow_rows, **READERS}
