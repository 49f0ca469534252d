"""Ordinary Hugging Face checkpoint folders: how models are written and read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from transformers import AutoModelForCausalLM

    from unlearn_cli.models.spread import spread

    quiet()
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
    loaded: PreTrainedModel = spread(model, devices or ("cpu",)).eval()
    return loaded


def quiet() -> None:
    """No bars of transformers: a run tells what it does."""
    from transformers.utils import logging

    logging.disable_progress_bar()
