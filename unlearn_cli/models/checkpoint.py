"""Ordinary Hugging Face checkpoint folders: how models are written and read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn_cli.errors import ConfigError, UnlearnError
from unlearn_cli.memory import is_exhausted
from unlearn_cli.models.reading import first_line
from unlearn_cli.models.weights import amiss, unreported, whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.worlds.wording import Tokens


def save(model: PreTrainedModel, vocabulary: Tokens, folder: Path) -> None:
    """Write config, safetensors and tokenizer; `AutoModelForCausalLM.from_pretrained(folder)` reads it back."""
    quiet()
    network: Any = model  # the stubs of `to` take no device
    network.to("cpu").save_pretrained(folder)
    vocabulary.tokenizer().save_pretrained(folder)


def load(folder: Path, *devices: Any) -> PreTrainedModel:
    """Read a checkpoint folder in the precision of its weights, in evaluation mode, to the CPU or to `devices`."""
    from unlearn_cli.models.spread import spread

    loaded: PreTrainedModel = spread(_read(folder, "auto"), devices or ("cpu",)).eval()
    return loaded


def given(folder: Path, field: str, dtype: Any = "auto") -> PreTrainedModel:
    """Read a checkpoint that somebody else wrote; a ConfigError that names what makes it no model."""
    import torch

    whole(folder, field)
    try:
        model = _read(folder, dtype)
    except UnlearnError as error:
        raise ConfigError([f"{field}: {error}"]) from None
    except Exception as error:  # whatever a broken file makes its reader raise
        if is_exhausted(error):
            raise
        said = f"{folder} cannot be loaded as its config.json says: {first_line(error)}"
        raise ConfigError([f"{field}: {said}"]) from None
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            where = " in float16" if weight.dtype == torch.float16 else ""  # which holds less than other files may
            raise ConfigError([f"{field}: {name} of {folder} holds values that are not finite{where}"])
    return model


def _read(folder: Path, dtype: Any) -> PreTrainedModel:
    """Weights from safetensors, all of them; an UnlearnError where transformers would put random ones."""
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM  # the stubs of `from_pretrained` return a model alone
    with unreported():
        model, found = auto.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    if problems := amiss(model, found, folder):
        raise UnlearnError(problems[0])
    read: PreTrainedModel = model
    return read


def quiet() -> None:
    """No bars of transformers: a run tells what it does."""
    from transformers.utils import logging

    logging.disable_progress_bar()
