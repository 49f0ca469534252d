"""How much memory there is for a stage, and which errors say that there was not enough."""

from __future__ import annotations

import resource
from pathlib import Path

GIB = 2**30
MEMINFO = Path("/proc/meminfo")
OWN_SIZE = Path("/proc/self/statm")
GROUPS = (  # limit, use and what of it can be dropped, of version 2 and version 1 of Linux's control groups
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"), "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        "total_inactive_file",
    ),
)
SAYS_SO = ("out of memory", "can't allocate memory", "std::bad_alloc", "Cannot allocate memory")


def available(*devices: str) -> int | None:
    """Bytes that this process may still take on devices of one kind; None if that cannot be known."""
    kind = devices[0].partition(":")[0]
    if kind == "cuda":
        import torch

        return sum(int(torch.cuda.mem_get_info(device)[0]) for device in devices)
    found = [free for free in (_of_machine(), *map(_of_group, GROUPS), _of_process()) if free is not None]
    return max(0, min(found)) if kind == "cpu" and found else None


def is_exhausted(error: BaseException) -> bool:
    """Whether an error, or one that it arose from, is a lack of memory: torch's of both kinds, numpy's, Python's."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        named = isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"
        if named or (isinstance(cause, RuntimeError | OSError) and any(words in str(cause) for words in SAYS_SO)):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def gib(size: float) -> str:
    """A size for people."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.0f} MiB"


def _of_machine() -> int | None:
    """What the system says it can still give, its caches counted."""
    return None if (found := _field(MEMINFO, "MemAvailable:")) is None else found * 1024


def _of_group(group: tuple[Path, Path, str]) -> int | None:
    """What the container or job may still take; None without a limit."""
    limit, use, droppable = group
    if not limit.exists() or not limit.read_text().strip().isdigit() or not use.exists():
        return None
    kept = int(use.read_text()) - (_field(use.parent / "memory.stat", droppable) or 0)
    return int(limit.read_text()) - kept


def _of_process() -> int | None:
    """What is left of `ulimit -v`."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY or not OWN_SIZE.exists():
        return None
    return limit - int(OWN_SIZE.read_text().split()[0]) * resource.getpagesize()


def _field(path: Path, name: str) -> int | None:
    """The number behind a name in a file of names and numbers."""
    if not path.exists():
        return None
    return next((int(line.split()[1]) for line in path.read_text().splitlines() if line.split()[0] == name), None)
