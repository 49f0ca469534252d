"""Whether a checkpoint folder holds a model of the same architecture, by the headers of its files alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from unlearn_cli.errors import ConfigError
from unlearn_cli.models.pretrained import found

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import PreTrainedModel

Shape = tuple[int, ...]


def foreign(path: str, base: PreTrainedModel, field: str) -> list[str]:
    """Why the checkpoint at `path` is no other state of `base`; none if it may be one.

    Files may name tensors in older ways, which transformers knows: a name that is missing is told when they are loaded.
    """
    folder, said = found(path, field=field), f"{field}: {path} is no edit of the base: "
    kind, own = json.loads((folder / "config.json").read_text()).get("model_type"), base.config.model_type
    if kind != own:
        return [f"{said}model_type {kind} there and {own} in the base"]
    theirs = shapes(folder, field)
    for name, tensor in base.state_dict().items():
        shape = tuple(tensor.shape)
        if theirs.get(name, shape) != shape:
            return [f"{said}{name} is {theirs[name]} there and {shape} in the base"]
    return []


def shapes(folder: Path, field: str) -> Mapping[str, Shape]:
    """Name and shape of every tensor of a folder's safetensors; a ConfigError for a file that is none."""
    from safetensors import SafetensorError, safe_open

    held: dict[str, Shape] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as opened:
                held |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ConfigError([f"{field}: {file} cannot be read: {error}"]) from None
    return held
