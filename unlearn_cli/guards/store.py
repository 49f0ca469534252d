"""A guard on disk: `guard/` beside its model, as safetensors and JSON."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn_cli.errors import UnlearnError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.guards.base import Guard, Guarded

FOLDER, TENSORS, CONFIG = "guard", "guard.safetensors", "guard.json"
README = """\
The weights in this folder are those of the model before the edit: a guard answers in its place.
Plain `AutoModelForCausalLM.from_pretrained` reads the model without it. With it:

    from unlearn_cli import guards
    model = guards.load("this folder")
    model.generate(input_ids, max_new_tokens=4)
"""


def save(guard: Guard, folder: Path) -> None:
    """Write the guard into a checkpoint folder, and a README.md that says so; UnlearnError if `load` could not."""
    from safetensors.torch import save_file

    kind = f"{type(guard).__module__.removeprefix(__package__ + '.')}.{type(guard).__qualname__}"
    _kind(kind)
    place = folder / FOLDER
    place.mkdir()
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in guard.state_dict().items()}
    save_file(tensors, place / TENSORS)
    (place / CONFIG).write_text(json.dumps({"guard": kind, "config": guard.config}, indent=1))
    (folder / "README.md").write_text(README)


def load(folder: str | Path, *devices: Any) -> Guarded:
    """Read a checkpoint with its guard, to the CPU, a device, or several; UnlearnError if it has none."""
    from unlearn_cli.guards.base import Guarded
    from unlearn_cli.models import checkpoint

    if not (Path(folder) / FOLDER / CONFIG).is_file():
        raise UnlearnError(f"{folder} has no {FOLDER}/{CONFIG}: it is a model without a guard")
    model = checkpoint.load(Path(folder), *devices)
    return Guarded(model, read(Path(folder), devices[0] if devices else "cpu")).eval()


def load_if_guarded(folder: Path, *devices: Any) -> PreTrainedModel | Guarded:
    """Read a checkpoint, with its guard where it has one."""
    from unlearn_cli.models import checkpoint

    return load(folder, *devices) if (folder / FOLDER).is_dir() else checkpoint.load(folder, *devices)


def read(folder: Path, device: Any = "cpu") -> Guard:
    """Read only the guard of a checkpoint folder."""
    from safetensors.torch import load_file

    said = json.loads((folder / FOLDER / CONFIG).read_text())
    guard = _kind(said["guard"]).from_config(said["config"])
    guard.load_state_dict(load_file(folder / FOLDER / TENSORS))
    return guard.to(device).eval().requires_grad_(False)


def _kind(name: str) -> type[Guard]:
    """The class; only those of this package, so that a folder from elsewhere cannot name any code to run."""
    from unlearn_cli.guards.base import Guard

    module, _, kind = name.rpartition(".")
    here = importlib.import_module(__package__)
    if module in {found.name for found in pkgutil.iter_modules(here.__path__)}:
        found = getattr(importlib.import_module(f"{__package__}.{module}"), kind, None)
        if isinstance(found, type) and issubclass(found, Guard) and found is not Guard:
            return found
    raise UnlearnError(f"{name} is no guard of {__package__}")
