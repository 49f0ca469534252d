"""A model that is there already: any causal LM that `AutoModelForCausalLM` loads from a folder or a hub name.

Weights are read from safetensors alone. A hub name is looked up in the local cache; nothing is fetched unless the user
says so (`model.download=true`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from unlearn_cli.component import component
from unlearn_cli.errors import ConfigError
from unlearn_cli.models.base import Model
from unlearn_cli.models.configuration import OWN_CODE, configuration, network
from unlearn_cli.models.folder import digest, found, snapshot
from unlearn_cli.models.reading import Stamps, first_line, is_pointer, located, reading, short, stamps
from unlearn_cli.models.weights import whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.worlds.base import WorldData

TOLD = 10  # texts that are too long, told one by one
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
BESIDE = ("merges.txt", "added_tokens.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
TOKENIZER_FILES = (*VOCABULARIES, *BESIDE)


@component
class Pretrained(Model):
    """A checkpoint in the place of a freshly initialised model."""

    VERSION: ClassVar[int] = 1
    trained: ClassVar[bool] = True

    path: str = ""  # folder or hub name
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of the weights
    download: bool = False  # whether a hub name may be fetched
    device_map: Literal["none", "auto"] = "none"  # auto: blocks on all devices that the process sees
    gradient_checkpointing: bool = False  # training keeps each block's input alone and computes the rest again

    def build(self, vocab_size: int, max_length: int, seed: int) -> PreTrainedModel:
        """Load it; what it was initialised from is known to nobody."""
        return self.prepared(self.read(vocab_size, max_length, "model.path"))

    def read(self, vocab_size: int, max_length: int, field: str) -> PreTrainedModel:
        """The checkpoint that `field` names; a ConfigError that names what is wrong with it."""
        import torch

        from unlearn_cli.models.checkpoint import given

        model: Any = given(found(self.path, self.download, field), field, getattr(torch, self.dtype))
        rows, longest = model.get_input_embeddings().weight.shape[0], _longest(vars(model.config))
        problems = _unfit(self.path, field, rows, vocab_size, longest, max_length)
        if problems:
            raise ConfigError(problems)
        read: PreTrainedModel = model
        return read

    def skeleton(self, vocab_size: int, max_length: int) -> PreTrainedModel:
        """From its configuration."""
        return network(found(self.path, self.download), "model.path", self.dtype)

    def prepared(self, model: PreTrainedModel) -> PreTrainedModel:
        """Training will compute activations again instead of keeping them, if the field says so."""
        if self.gradient_checkpointing:
            name = "activation_checkpointing_enable"  # as newer transformers call it
            enable = getattr(model, name, None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        return model

    def source(self) -> dict[str, str]:
        """What the checkpoint holds, in place of where it lies; where and how it is computed changes no number."""
        held = digest(found(self.path, self.download))
        return {"path": held, "download": "", "device_map": "", "gradient_checkpointing": ""}

    def misfits(self, world: WorldData) -> list[str]:
        """Texts longer than it reads, tokens that it does not embed."""
        return misfits(self.path, world, self.download)


def tokenizer(path: str) -> Any:
    """The fast tokenizer of a folder or hub name; read again if a file has changed."""
    folder = located(path, "world.tokenizer") or Path(path)
    with reading("world.tokenizer", path):
        return _tokenizer(path, folder, stamps(folder / name for name in TOKENIZER_FILES))


@lru_cache(maxsize=16)
def _tokenizer(path: str, folder: Path, files: Stamps) -> Any:
    from transformers import AutoTokenizer

    for file, *_ in files:
        if is_pointer(file):
            raise ConfigError([f"world.tokenizer: {file} is a pointer of git-lfs: run `git lfs pull` there"])
    try:
        named = folder if folder.is_dir() else path
        loaded = AutoTokenizer.from_pretrained(named, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a broken file makes its reader raise
        raise ConfigError([f"world.tokenizer: {_no_tokenizer(path, folder, error)}"]) from None
    if not loaded.is_fast:
        raise ConfigError([f"world.tokenizer: {path} has no fast tokenizer, which alone knows where tokens stand"])
    return loaded


def _no_tokenizer(path: str, folder: Path, error: Exception) -> str:
    advice = "name a folder that does with world.tokenizer=<folder>"
    if "trust_remote_code" in str(error):  # the argument that would run it
        return f"{path} {OWN_CODE}"
    if not folder.is_dir():
        there = "there is no such folder, and no hub model of that name in the local Hugging Face cache has a tokenizer"
        return f"{short(path)!r} given; {there}; name a folder that holds one"
    if not any((folder / name).exists() for name in VOCABULARIES):
        return f"{path} holds no tokenizer (there is no tokenizer.json); {advice}"
    return f"{path} holds no tokenizer ({first_line(error)}); {advice}"


def tokenizer_digest(path: str) -> str:
    """SHA-256 over the files that make a tokenizer, in place of where they lie."""
    folder = located(path, "world.tokenizer") or snapshot(path, field="world.tokenizer")
    held = {name: (folder / name).read_bytes().hex() for name in TOKENIZER_FILES if (folder / name).exists()}
    return f"sha256:{hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()}"


def misfits(path: str, world: WorldData, download: bool = False, field: str = "model.path") -> list[str]:
    """Why a checkpoint cannot read a world, by its headers alone: text by text where some are too long."""
    folder = found(path, download, field)
    config = configuration(folder, field)
    whole(folder, field)
    longest, rows = _longest(config), config.get("vocab_size", world.vocabulary.size)
    beyond = [] if longest is None else world.language.beyond(longest)
    problems = [f"{text}; {field}={path} reads {longest}" for text in beyond[:TOLD]]
    problems += [f"{len(beyond) - TOLD} more texts are too long"] if len(beyond) > TOLD else []
    return problems or _unfit(path, field, rows, world.vocabulary.size, longest, world.max_length)


def _longest(config: Mapping[str, Any]) -> int | None:
    """Tokens that a model reads; None: nobody says."""
    found = config.get("max_position_embeddings", config.get("n_positions"))
    return None if found is None else int(found)


def _unfit(path: str, field: str, rows: int, vocab_size: int, longest: int | None, max_length: int) -> list[str]:
    problems = []
    if vocab_size > rows:
        problems.append(f"{field}: {path} embeds {rows} tokens; the tokenizer has {vocab_size}")
    if longest is not None and max_length > longest:
        problems.append(f"{field}: {path} reads {longest} tokens; the longest text has {max_length}")
    return problems
