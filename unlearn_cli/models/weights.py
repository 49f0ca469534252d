"""The safetensors of a checkpoint folder, by their headers: whether they fill the network of its configuration.

transformers fills what is missing with random numbers. Which names it finds, and under which names of its own, it says
itself: it loads tensors of the same names and shapes that hold nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn_cli.errors import ConfigError
from unlearn_cli.models.configuration import network
from unlearn_cli.models.reading import Stamps, first_line, is_pointer, reading, stamps

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
KINDS = ("F64", "F32", "BF16", "F16")  # of weights
Shape = tuple[int, ...]


def weight_files(folder: Path, field: str) -> list[Path]:
    """The files that transformers reads; a ConfigError for those that are no weights, or not there."""
    with reading(field, folder):
        indexed = _indexed(folder, field) if (folder / INDEX).exists() else []
        files = [folder / SINGLE] if (folder / SINGLE).exists() else indexed
        if not files:
            raise ConfigError([f"{field}: {folder} {_instead(folder)}"])
    for file in files:
        with reading(field, file):
            if is_pointer(file):
                raise ConfigError([f"{field}: {file} is a pointer of git-lfs, no weights: run `git lfs pull` there"])
    return files


def shapes(folder: Path, field: str) -> Mapping[str, Shape]:
    """Name and shape of every tensor; a ConfigError for a file that is none, and for quantised weights."""
    from safetensors import SafetensorError, safe_open

    held: dict[str, Shape] = {}
    for file in weight_files(folder, field):
        try:
            with safe_open(file, framework="pt") as opened:
                slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
                kinds = {name: str(found.get_dtype()) for name, found in slices.items()}
                held |= {name: tuple(found.get_shape()) for name, found in slices.items()}
        except (SafetensorError, OSError) as error:
            raise ConfigError([f"{field}: {file} cannot be read: {error}"]) from None
        odd = [name for name, kind in kinds.items() if name.endswith("weight") and kind not in KINDS]
        if odd:
            allowed = "weights must be in float32, bfloat16 or float16"
            raise ConfigError([f"{field}: {odd[0]} of {folder} is in {kinds[odd[0]]}; {allowed}"])
    return held


def whole(folder: Path, field: str) -> None:
    """A ConfigError unless the tensors are those of the configuration, by their headers alone."""
    with reading(field, folder):
        seen = stamps([folder / "config.json", folder / INDEX, *weight_files(folder, field)])
    problems = _shortfall(folder, field, seen)
    if problems:
        raise ConfigError([f"{field}: {problem}" for problem in problems])


def amiss(model: PreTrainedModel, found: Mapping[str, Any], folder: Path) -> list[str]:
    """What transformers says of a checkpoint that it has loaded (`output_loading_info`), if that is no such model."""
    kind, problems = type(model).__name__, []
    if missing := sorted(found["missing_keys"]):
        problems.append(f"{folder} lacks {_and_more(missing)} of a {kind}")
    if odd := sorted(found["mismatched_keys"]):
        name, theirs, ours = odd[0]
        rest = f" ({len(odd) - 1} more differ)" if odd[1:] else ""
        problems.append(f"{name} of {folder} is {tuple(theirs)}, and {tuple(ours)} by its config.json{rest}")
    repeated = {_numberless(name) for name in model.state_dict()}
    if beyond := sorted(name for name in found["unexpected_keys"] if _numberless(name) in repeated):
        problems.append(f"{folder} holds {_and_more(beyond)}, for which a {kind} of its config.json has no place")
    return problems[:1]  # the others follow from the first


@contextmanager
def unreported() -> Iterator[None]:
    """No bar and no report of transformers about a checkpoint: `amiss` says what matters."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@lru_cache(maxsize=16)
def _shortfall(folder: Path, field: str, _: Stamps) -> list[str]:
    empty = network(folder, field)
    try:
        return amiss(empty, _loaded(empty, shapes(folder, field)), folder)
    except RuntimeError:  # a conversion that needs the numbers themselves: told when they are loaded
        return []


def _loaded(empty: PreTrainedModel, held: Mapping[str, Shape]) -> Mapping[str, Any]:
    import torch

    tensors = {name: torch.empty(shape, device="meta") for name, shape in held.items()}
    kind: Any = type(empty)  # the stubs of `from_pretrained` return a model alone
    with unreported():
        _, found = kind.from_pretrained(
            None,
            config=empty.config,
            state_dict=tensors,
            dtype=torch.float32,
            device_map="meta",
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    return dict(found)


def _indexed(folder: Path, field: str) -> list[Path]:
    """Every file that the index of a divided checkpoint names."""
    index = folder / INDEX
    try:
        named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        missing = [name for name in named if not (folder / name).exists()]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError([f"{field}: {index} cannot be read: {first_line(error)}"]) from None
    if missing:
        raise ConfigError([f"{field}: {index} names {missing[0]}, which is not there ({len(missing)} missing)"])
    return [folder / name for name in named]


def _instead(folder: Path) -> str:
    """What a folder holds that has no weights to read."""
    named = sorted(item.name for item in folder.glob("*.safetensors"))
    if parts := [name for name in named if re.search(r"-\d+-of-\d+\.", name)]:
        return f"holds {parts[0]} and no {INDEX}, which says what is in which file"
    if named:
        return f"holds {named[0]}, which is not read: weights are read from {SINGLE}"
    kinds = sorted({item.suffix for item in folder.iterdir() if item.suffix in (".bin", ".pt", ".gguf")})
    return "holds no .safetensors" + (f" (only {', '.join(kinds)}, which are not read)" if kinds else "")


def _and_more(names: list[str]) -> str:
    """The first, and how many others."""
    count = len(names) - 1
    return names[0] + (f" and {count} more tensor{'s' * (count > 1)}" if count else "")


def _numberless(name: str) -> str:
    """A tensor's name, alike in every block."""
    return re.sub(r"\.\d+\.", ".*.", name)
