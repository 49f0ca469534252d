"""Where in a transformer a weight sits, read from its name."""

from __future__ import annotations

import re
from typing import NamedTuple

from unlearn_cli.models.anatomy import block_of

# In order: `post_attention_layernorm` is a norm and `embed_out` a head.
MODULES = (
    ("norm", re.compile(r"norm|(^|\.)ln_")),
    ("attention", re.compile(r"attn|attention")),
    ("mlp", re.compile(r"mlp|(^|\.)fc[12]\.")),
    ("head", re.compile(r"lm_head|embed_out")),
    ("embed", re.compile(r"embed|(^|\.)wte\.|(^|\.)wpe\.")),
)


class Place(NamedTuple):
    """A weight's place."""

    module: str  # embed | attention | mlp | norm | head | other
    layer: int | None  # None: outside the layers


def place(name: str) -> Place:
    """Parse a tensor's name, such as `gpt_neox.layers.3.mlp.dense_4h_to_h.weight`."""
    module = next((module for module, pattern in MODULES if pattern.search(name)), "other")
    return Place(module, block_of(name))
