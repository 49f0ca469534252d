"""Files of the user's as rows with their line numbers; what is wrong is noted, and the rest read on."""

from __future__ import annotations

import codecs
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

Note = Callable[[int, str], None]  # (line, what is wrong with it); lines count from 1


class NotUTF8(ValueError):
    """Bytes that are no text."""

    def __init__(self, line: int, byte: int) -> None:
        super().__init__(f"not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8")
        self.line = line


def decoded(content: bytes) -> str:
    """UTF-8, with a byte order mark or without; NotUTF8 otherwise."""
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise NotUTF8(content.count(b"\n", 0, error.start) + 1, content[error.start]) from None


def csv_rows(text: str, note: Note, check: Callable[[int, list[str]], None]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV with a header, which `check` may refuse; a row may span lines, and counts as its first."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            start, line = line, reader.line_num + 1
            if not cells:
                continue
            if not header:
                header = [" ".join(cell.split()) for cell in cells]
                check(start, header)
            elif len(cells) != len(header):
                advice = "; quote a text that holds a comma" if len(cells) > len(header) else ""
                note(start, f"{len(cells)} fields, the header has {len(header)}{advice}")
            else:
                yield start, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        note(line, f"no CSV: {error}")


def json_lines(text: str, note: Note, **parsing: Any) -> Iterator[tuple[int, Any]]:
    """The JSON value of each line that holds something; `parsing` is told to `json.loads`."""
    for line, written in enumerate(text.split("\n"), 1):  # not splitlines: JSON texts may hold U+2028
        if not written.strip():
            continue
        try:
            yield line, json.loads(written, **parsing)
        except json.JSONDecodeError as error:
            note(line, f"no JSON: {error.msg} (column {error.colno})")
        except RecursionError:
            note(line, "no JSON that can be read: too deeply nested")
