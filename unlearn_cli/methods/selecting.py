"""How the facts to train on are chosen: the part of select.py that needs torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods import hidden
from unlearn_cli.methods.base import EditData
from unlearn_cli.methods.gradients import chunks
from unlearn_cli.methods.loss import Place
from unlearn_cli.methods.select import Select
from unlearn_cli.methods.weight_edit import read_tokens
from unlearn_cli.streams import derive, generator
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.vocabulary import Ids


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is left to train on, and what choosing it took."""

    data: EditData
    tokens: int = 0  # read
    notes: Mapping[str, Any] | None = None


def choose(select: Select, model: torch.nn.Module, data: EditData, seed: int, device: torch.device) -> Chosen:
    """Cut the requested facts down to the core; UnlearnError if there is nothing to choose from."""
    if select.kind == "none" or data.forget is None:
        return Chosen(data)
    total = len(data.forget.facts)
    if total < 2:
        raise UnlearnError(f"method.select.kind: {select.kind} chooses among facts, and the request has only {total}")
    size, tokens = core_size(total, select.contamination), 0
    if select.kind == "random":
        kept = np.sort(generator(seed, "edit", "select").choice(total, size, replace=False))
    else:
        states, tokens = prompt_states(model, data.forget, select.layer, device)
        kept = inliers(states, size, seed)
    target = None if data.target is None else data.target[kept]
    cut = replace(data, forget=data.forget.only(kept), target=target)
    return Chosen(cut, tokens, {"requested": total, "trained_on": size})


def core_size(total: int, contamination: float) -> int:
    """n - ceil(contamination (n - 1)); the product is rounded, so that 0.1 * 70 is 7."""
    return total - math.ceil(round(contamination * (total - 1), 9))


@torch.no_grad()
def prompt_states(
    model: torch.nn.Module, world: WorldData, layer: int, device: torch.device
) -> tuple[NDArray[np.float64], int]:
    """The state of each fact [n, d] at the last token of its prompt, a mean over phrasings; and the tokens read."""
    model.eval()
    n, asked = len(world.facts), world.language.asked
    sentences = world.sentences(np.repeat(np.arange(n), len(asked)), np.tile(asked, n))
    first = []
    for part in chunks(sentences):
        states = hidden.read(model, Place(layer, "answer"), part, device).hidden
        assert states is not None
        tokens = part.answer_end - part.answer_start + 1  # states of a sentence, the first at its prompt's end
        first.append(states[torch.from_numpy(tokens.cumsum() - tokens).to(states.device)].double().cpu())
    return torch.cat(first).unflatten(0, (n, -1)).mean(1).numpy(), read_tokens(sentences)


def inliers(states: NDArray[np.float64], size: int, seed: int) -> Ids:
    """The `size` rows that an isolation forest isolates last, ascending; of equal ones the first."""
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(random_state=derive(seed, "edit", "select") % 2**32).fit(states)
    normality = forest.score_samples(states)
    kept: Ids = np.sort(np.argsort(-normality, kind="stable")[:size])
    return kept
