"""Reading what others wrote: what cannot be read is told in one sentence, and a file that has changed is read again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from unlearn_cli.errors import ConfigError

LONGEST = 200  # characters of a path that are repeated
Stamps = tuple[tuple[Path, int, int], ...]  # files with size and time of change


@contextmanager
def reading(field: str, path: str | Path) -> Iterator[None]:
    """A ConfigError in place of what the operating system says."""
    try:
        yield
    except OSError as error:
        raise ConfigError([f"{field}: {short(path)} cannot be read: {error.strerror or first_line(error)}"]) from None


def located(path: str, field: str) -> Path | None:
    """The folder of that name; None: there is none, so that it may be a hub name."""
    if not path.strip():
        raise ConfigError([f"{field}: nothing given; expected a folder or a hub name (owner/name)"])
    try:
        folder = Path(path).expanduser()
    except RuntimeError:
        raise ConfigError([f"{field}: {short(path)} given; there is no user of that name"]) from None
    with reading(field, path):
        return folder if folder.is_dir() else None


def stamps(files: Iterable[Path]) -> Stamps:
    """What tells that files are still the same."""
    return tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(files) if path.exists())


def is_pointer(file: Path) -> bool:
    """Whether git-lfs left a few lines in the place of a file."""
    with file.open("rb") as opened:
        return opened.read(23) == b"version https://git-lfs"


def short(path: str | Path) -> str:
    """A path as it is repeated."""
    told = str(path)
    return told if len(told) <= LONGEST else f"{told[: LONGEST - 3]}..."


def first_line(error: Exception) -> str:
    """What an error of transformers says, without its advice."""
    said = str(error).strip().partition("\n")[0]
    said = re.split(r"(?<=[a-z`])\. ", said)[0].rstrip(".: ")
    return said if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {said}"
