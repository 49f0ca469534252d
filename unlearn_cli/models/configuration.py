"""The config.json of a checkpoint folder: what it says, and the network of that shape, without any weights.

No code that lies beside a checkpoint is run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn_cli.errors import ConfigError
from unlearn_cli.models.reading import first_line, reading

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OWN_CODE = "needs code of its own (auto_map), which unlearn does not run"
SIZES = ("num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size")  # none of them is less than 1


def written(folder: Path, field: str) -> dict[str, Any]:
    """What config.json says; a ConfigError for what is no configuration, or one of a model that is not read here."""
    with reading(field, folder):
        if (folder / "adapter_config.json").exists():
            how = "merge it into its base first (peft: merge_and_unload, then save_pretrained)"
            raise ConfigError([f"{field}: {folder} is an adapter (adapter_config.json), no model: {how}"])
        if not (folder / "config.json").exists():
            raise ConfigError([f"{field}: {folder} has no config.json; expected a Hugging Face checkpoint folder"])
    told = _parsed(folder, field)
    if not isinstance(told.get("model_type"), str):
        raise ConfigError([f"{field}: {folder} cannot be loaded: config.json has no model_type"])
    if found := told.get("quantization_config"):
        how = found.get("quant_method", "quantization_config") if isinstance(found, dict) else "quantization_config"
        kinds = "weights must be in float32, bfloat16 or float16"
        raise ConfigError([f"{field}: {folder} is quantised ({how}); {kinds}"])
    if "auto_map" in told and not _known(told["model_type"]):
        raise ConfigError([f"{field}: {folder} {OWN_CODE}"])
    return told


def configuration(folder: Path, field: str) -> dict[str, Any]:
    """A folder's configuration, with its text part's beside it; a ConfigError if transformers cannot read it."""
    told: dict[str, Any] = _config(folder, field).to_dict()
    return told | (told.get("text_config") or {})


def network(folder: Path, field: str, dtype: str = "float32") -> PreTrainedModel:
    """The model of a folder's configuration on the device `meta`; a ConfigError if it is no causal language model."""
    import torch
    from transformers import AutoModelForCausalLM

    config = _config(folder, field)
    _is_causal(config, folder, field)
    try:
        with torch.device("meta"):
            made: PreTrainedModel = AutoModelForCausalLM.from_config(
                config, dtype=getattr(torch, dtype), trust_remote_code=False
            )
    except Exception as error:  # whatever a value makes its reader raise
        raise ConfigError([f"{field}: {folder} cannot be loaded: {_cause(error, folder, field)}"]) from None
    return made


def _parsed(folder: Path, field: str) -> dict[str, Any]:
    said = f"{field}: {folder} cannot be loaded: config.json"
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ConfigError([f"{said} is not in UTF-8"]) from None
    except OSError as error:
        raise ConfigError([f"{said} cannot be read ({error.strerror})"]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{said} is no JSON ({error})"]) from None
    if not isinstance(told, dict):
        raise ConfigError([f"{said} holds no JSON object"])
    return told


def _known(model_type: str) -> bool:
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def _config(folder: Path, field: str) -> Any:
    from transformers import AutoConfig

    written(folder, field)
    try:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        text = config.get_text_config(decoder=True)
    except Exception as error:  # whatever a value makes its reader raise
        raise ConfigError([f"{field}: {folder} cannot be loaded: {_cause(error, folder, field)}"]) from None
    for name in SIZES:
        size = getattr(text, name, None)
        if isinstance(size, int) and size < 1:
            raise ConfigError(
                [f"{field}: {folder} cannot be loaded: config.json: {name} is {size}; at least 1 allowed"]
            )
    return config


def _is_causal(config: Any, folder: Path, field: str) -> None:
    """Encoders are loaded without complaint, and their numbers would mean nothing."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    encodes = type(config) in MODEL_FOR_MASKED_LM_MAPPING and getattr(config, "is_decoder", None) is False
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not encodes and not getattr(config, "is_encoder_decoder", False):
        return
    if "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        raise ConfigError([f"{field}: {folder} {OWN_CODE}"])
    name = (config.architectures or [type(config).__name__])[0]
    what = "no causal language model that AutoModelForCausalLM loads"
    raise ConfigError([f"{field}: {folder} is a {name} ({config.model_type}), {what}"])


def _cause(error: Exception, folder: Path, field: str) -> str:
    """What a reader of the configuration objects to."""
    if isinstance(error, KeyError) and error.args:
        (place, *_) = [*_places(written(folder, field), error.args[0]), "a value"]
        return f"config.json: {place} {error.args[0]!r} is unknown to transformers"
    if type(error).__name__.startswith("StrictDataclass"):  # what, and in the last line why
        return f"config.json: {str(error).strip().splitlines()[-1].strip().partition(': ')[2].rstrip('.')}"
    return first_line(error)


def _places(told: dict[str, Any], value: object) -> Iterator[str]:
    """The fields that hold a value."""
    for name, held in told.items():
        if isinstance(held, dict):
            yield from (f"{name}.{place}" for place in _places(held, value))
        elif held == value:
            yield name
