"""Checkpoint folders: where they are, what they hold by the headers of their files, what tells them apart.

What cannot be loaded is told by its headers, before anything runs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn_cli.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Shape = tuple[int, ...]
Stamps = tuple[tuple[Path, int, int], ...]  # files with size and time of change


def found(path: str, download: bool = False, field: str = "model.path") -> Path:
    """The folder of a checkpoint, or a ConfigError that says what is missing."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise ConfigError([f"{field}: {path} has no config.json; expected a Hugging Face checkpoint folder"])
        if not list(folder.glob("*.safetensors")):
            kinds = sorted({item.suffix for item in folder.iterdir() if item.suffix in (".bin", ".pt", ".gguf")})
            others = f" (only {', '.join(kinds)}, which are not read)" if kinds else ""
            raise ConfigError([f"{field}: {path} holds no .safetensors{others}"])
        return folder
    if path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise ConfigError([f"{field}: {path!r} given; there is no such folder, and it is no hub name (owner/name)"])
    return _from_hub(path, download, field)


def _from_hub(name: str, download: bool, field: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    try:
        return Path(snapshot_download(name, local_files_only=not download, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        how = "and could not be fetched" if download else "; fetch it first, or with model.download=true"
        raise ConfigError([f"{field}: {name} is not in the local Hugging Face cache {how} ({error})"]) from None


def digest(folder: Path) -> str:
    """SHA-256 over the configuration and all weights of a checkpoint folder; read again if a file has changed."""
    return _digest(stamps([folder / "config.json", *folder.glob("*.safetensors")]))


def stamps(files: Iterable[Path]) -> Stamps:
    """What tells that files are still the same."""
    return tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(files) if path.exists())


@lru_cache(maxsize=16)
def _digest(files: Stamps) -> str:
    sha = hashlib.sha256()
    for path, _, _ in files:
        with path.open("rb") as file:
            sha.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{sha.hexdigest()}"


def configuration(folder: Path, field: str) -> dict[str, Any]:
    """A folder's configuration, with its text part's beside it; a ConfigError if transformers cannot read it."""
    from transformers import AutoConfig

    try:
        told: dict[str, Any] = AutoConfig.from_pretrained(folder, local_files_only=True).to_dict()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError([f"{field}: {folder} cannot be loaded: {first_line(error)}"]) from None
    return told | told.get("text_config", {})


def shapes(folder: Path, field: str) -> Mapping[str, Shape]:
    """Name and shape of every tensor of a folder's safetensors; a ConfigError for a file that is none."""
    from safetensors import SafetensorError, safe_open

    _all_there(folder, field)
    held: dict[str, Shape] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as opened:
                held |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ConfigError([f"{field}: {file} cannot be read: {error}"]) from None
    return held


def _all_there(folder: Path, field: str) -> None:
    """Every file that the index of a divided checkpoint names."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return
    try:
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as error:
        raise ConfigError([f"{field}: {index} cannot be read: {first_line(error)}"]) from None
    missing = sorted(name for name in named if not (folder / name).exists())
    if missing:
        raise ConfigError([f"{field}: {index} names {missing[0]}, which is not there ({len(missing)} missing)"])


def foreign(path: str, base: PreTrainedModel, field: str) -> list[str]:
    """Why the checkpoint at `path` is no other state of `base`; none if it may be one.

    Files may name tensors in older ways, which transformers knows: a name that is missing is told when they are loaded.
    """
    folder, said = found(path, field=field), f"{field}: {path} is no edit of the base: "
    kind, own = configuration(folder, field).get("model_type"), base.config.model_type
    if kind != own:
        return [f"{said}model_type {kind} there and {own} in the base"]
    theirs = shapes(folder, field)
    for name, tensor in base.state_dict().items():
        shape = tuple(tensor.shape)
        if theirs.get(name, shape) != shape:
            return [f"{said}{name} is {theirs[name]} there and {shape} in the base"]
    return []


def first_line(error: Exception) -> str:
    """What an error of transformers says, without its advice."""
    said = str(error).strip().partition("\n")[0]
    said = re.split(r"(?<=[a-z`])\. ", said)[0].rstrip(".: ")
    return said if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {said}"
