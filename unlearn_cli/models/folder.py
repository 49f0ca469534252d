"""Checkpoint folders: where they are, what tells them apart, whether one is another state of the same model.

What cannot be loaded is told by its headers, before anything runs.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from unlearn_cli.errors import ConfigError
from unlearn_cli.models.configuration import network, written
from unlearn_cli.models.reading import Stamps, first_line, located, short, stamps
from unlearn_cli.models.weights import weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.models.weights import Shape


def found(path: str, download: bool = False, field: str = "model.path") -> Path:
    """The folder of a checkpoint, or a ConfigError that says what is missing."""
    folder = located(path, field) or snapshot(path, download, field)
    written(folder, field)
    weight_files(folder, field)
    return folder


def snapshot(name: str, download: bool = False, field: str = "model.path") -> Path:
    """The folder of a hub name in the local cache."""
    from huggingface_hub import snapshot_download

    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        given = f"{field}: {short(name)!r} given"
        raise ConfigError([f"{given}; there is no such folder, and it is no hub name (owner/name)"])
    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    try:
        return Path(snapshot_download(name, local_files_only=not download, allow_patterns=patterns))
    except (OSError, ValueError) as error:  # all errors of the hub are one of the two
        said = f"{field}: {short(name)} given; there is no such folder, and no hub model of that name "
        if download:
            raise ConfigError([f"{said}could be fetched ({first_line(error)})"]) from None
        advice = "model.download=true fetches it" if field == "model.path" else f"fetch it first (hf download {name})"
        raise ConfigError([f"{said}is in the local Hugging Face cache; {advice}"]) from None


def digest(folder: Path) -> str:
    """SHA-256 over the configuration and all weights of a checkpoint folder; read again if a file has changed."""
    return _digest(stamps([folder / "config.json", *folder.glob("*.safetensors")]))


@lru_cache(maxsize=16)
def _digest(files: Stamps) -> str:
    sha = hashlib.sha256()
    for path, _, _ in files:
        with path.open("rb") as file:
            sha.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{sha.hexdigest()}"


def foreign(path: str, base: PreTrainedModel, field: str) -> list[str]:
    """Why the checkpoint at `path` is no other state of `base`; none if it may be one.

    By the shapes of its configuration, which its tensors have (`weights.whole`) whatever its files call them.
    """
    said = f"{field}: {path} is no edit of the base: "
    other = network(found(path, field=field), field)
    kind, own = other.config.model_type, base.config.model_type
    if kind != own:
        return [f"{said}model_type {kind} there and {own} in the base"]
    if base.config.tie_word_embeddings and not other.config.tie_word_embeddings:  # one matrix cannot be both
        return [f"{said}tie_word_embeddings is false there and true in the base"]
    theirs, ours = _shapes(other), _shapes(base)
    for name in [*ours, *theirs]:
        there, here = theirs.get(name, "missing"), ours.get(name, "missing")
        if there != here:
            return [f"{said}{name} is {there} there and {here} in the base"]
    return []


def _shapes(model: PreTrainedModel) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
