"""The manifest done.json: written last, and what an artifact is checked against before it is used."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unlearn_cli import __version__
from unlearn_cli.cache.canonical import canonical_sha256, plain
from unlearn_cli.cache.stage import DIGEST_LENGTH, Stage
from unlearn_cli.errors import UnlearnError

MANIFEST = "done.json"
SCHEMA_VERSION = 1


class Damaged(UnlearnError):
    """An artifact's folder is not what its manifest says; the message tells the difference."""


def verify(folder: Path) -> Mapping[str, Any]:
    """The manifest of an artifact folder, every file's SHA-256 checked against it; raises Damaged."""
    try:
        manifest = _read(folder)
        found = _files(folder)
        _compare_names(set(manifest["files"]), set(found))
        for name, expected in manifest["files"].items():
            _compare_file(name, found[name], expected)
    except FileNotFoundError as error:
        raise Damaged(f"{error.filename} is missing") from error
    return manifest


def complete(partial: Path, stage: Stage, extra: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Put everything in `partial` on disk, the manifest last; returns the manifest."""
    files = _files(partial)
    manifest: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "stage": stage.name,
        "digest": stage.digest,
        "label": stage.label,
        "inputs": plain(stage.inputs, "inputs"),
        "files": {name: {"size": path.stat().st_size, "sha256": _file_sha256(path)} for name, path in files.items()},
        "seconds": seconds,
        "peak_memory_bytes": extra.get("peak_memory_bytes", peak_resident_bytes()),
        "extra": extra,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "unlearn_cli": __version__,
    }
    manifest["manifest_sha256"] = canonical_sha256(manifest)
    for path in files.values():
        sync(path)
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1))
    sync(partial / MANIFEST)
    for base, _, _ in os.walk(partial, topdown=False):
        sync(Path(base))
    return manifest


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def _read(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        claimed = manifest.pop("manifest_sha256")
        actual = canonical_sha256(manifest)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"{MANIFEST} is not readable as a manifest") from error
    if claimed != actual:
        raise Damaged(f"{MANIFEST} was changed after it was written")
    if manifest["schema_version"] != SCHEMA_VERSION:
        raise Damaged(f"{MANIFEST} has schema version {manifest['schema_version']}, not {SCHEMA_VERSION}")
    place = (folder.parent.name, folder.name[-DIGEST_LENGTH:])
    if place != (manifest["stage"], manifest["digest"]):
        raise Damaged(f"{MANIFEST} is that of {manifest['stage']} {manifest['digest']}")
    return {**manifest, "manifest_sha256": claimed}


def _files(folder: Path) -> dict[str, Path]:
    paths = (Path(base, name) for base, _, names in os.walk(folder) for name in names)
    return {path.relative_to(folder).as_posix(): path for path in sorted(paths) if path != folder / MANIFEST}


def _compare_names(expected: set[str], found: set[str]) -> None:
    problems = [f"{name} is missing" for name in sorted(expected - found)]
    problems += [f"{name} does not belong to it" for name in sorted(found - expected)]
    if problems:
        raise Damaged("; ".join(problems))


def _compare_file(name: str, path: Path, expected: Mapping[str, Any]) -> None:
    size = path.stat().st_size
    if size != expected["size"]:
        raise Damaged(f"{name} has {size} bytes instead of {expected['size']}")
    if _file_sha256(path) != expected["sha256"]:
        raise Damaged(f"the content of {name} was changed (its SHA-256 differs)")


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def peak_resident_bytes() -> int:
    """The most memory that this process ever had, in RAM."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
