"""How MLP neurons are distributed on forget and on retain texts, and which of them differ most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlearn_cli.guards.hooks import Hook, hooked
from unlearn_cli.guards.neurons import AdjustedNeurons, input_of
from unlearn_cli.machine import require
from unlearn_cli.methods.base import EditContext, EditData, EditReport
from unlearn_cli.methods.editing.network import blocks, in_rows
from unlearn_cli.methods.neuron_adjust import NeuronAdjust
from unlearn_cli.methods.phrased import requested, sampled
from unlearn_cli.streams import derive
from unlearn_cli.worlds.language import Sentences

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 1024  # rows in one forward pass
FLOOR = 1e-6  # of a standard deviation


def choose(
    method: NeuronAdjust, model: PreTrainedModel, data: EditData, context: EditContext
) -> tuple[AdjustedNeurons, EditReport]:
    """The guard of the neurons whose mean on forget texts is farthest above that on retain texts."""
    require(context.runtime.numerics)
    torch.set_num_threads(context.runtime.numerics.threads)
    assert data.forget is not None and data.retain is not None
    texts = requested(data.forget, method.contexts), sampled(data.retain, context.seed)[0]
    device = context.runtime.device
    (f_mean, f_std), (r_mean, r_std) = (statistics(model, text, method.positions == "all", device) for text in texts)
    difference = (f_mean - r_mean).flatten()
    count = round(method.percent / 100 * len(difference))
    chosen = difference.argsort(descending=True, stable=True)[:count]
    guard = AdjustedNeurons(count, method.deterministic, derive(context.seed, "edit", "chance") % 2**31).to(device)
    state = {"layer": chosen // f_mean.shape[1], "unit": chosen % f_mean.shape[1]}
    columns = {"forget_mean": f_mean, "forget_std": f_std, "retain_mean": r_mean, "retain_std": r_std}
    guard.load_state_dict(state | {name: column.flatten()[chosen].float() for name, column in columns.items()})
    shift = float((difference[chosen] / r_std.flatten()[chosen]).mean()) if count else 0.0
    told = {"neurons": float(count), "mean_shift": shift}  # the latter in standard deviations on retain texts
    context.runtime.curves.append({"step": 1.0, **told})
    tokens = int(sum(text.length.sum() for text in texts))
    return guard.eval(), EditReport(steps=1, forward_tokens=tokens, notes=told)


@torch.no_grad()
def statistics(
    model: PreTrainedModel, sentences: Sentences, everywhere: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every pre-activation [layers, d_ff], in float64.

    Over all tokens of the sentences, or over those that predict an answer.
    """
    place = torch.arange(sentences.input_ids.shape[1])
    if everywhere:
        counted = place < torch.from_numpy(sentences.length)[:, None]
    else:
        counted = (place == torch.from_numpy(sentences.positions - 1)[..., None]).any(1)
    sums: dict[int, Tensor] = {}

    def add(layer: int, inside: Tensor) -> Hook:
        def look(_: Tensor, out: Tensor) -> None:
            x = in_rows(out, len(inside))[inside].double()
            sums[layer] = sums.get(layer, 0.0) + torch.stack([x.sum(0), x.square().sum(0)])

        return look

    every = blocks(model)
    for ids, inside in zip(torch.from_numpy(sentences.input_ids).split(CHUNK), counted.split(CHUNK), strict=True):
        hooks = [(input_of(block), add(layer, inside.to(device))) for layer, block in enumerate(every)]
        with hooked(hooks):
            model.base_model(input_ids=ids.to(device), use_cache=False)
    mean, square = torch.stack([sums[layer] for layer in range(len(every))], 1) / int(counted.sum())
    return mean, (square - mean.square()).clamp_min(0).sqrt().clamp_min(FLOOR)
