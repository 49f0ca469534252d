"""Boxes around the keys of requested facts, and how far they may be shrunk or widened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlearn_cli.guards.hooks import keys
from unlearn_cli.guards.key_space import KeySpace
from unlearn_cli.machine import require
from unlearn_cli.methods.base import EditContext, EditData, EditReport
from unlearn_cli.methods.editing.network import blocks, numbers
from unlearn_cli.methods.editing.prompts import Prompts, prompts
from unlearn_cli.methods.key_space_detection import KeySpaceDetection
from unlearn_cli.methods.phrased import requested, sampled

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 1024  # rows in one forward pass
FLOOR = 1e-6  # of a standard deviation and of a box's half-width
ROUNDING = 1e-5  # relative widening, so that rounding does not put the outermost key outside


def draw(
    method: KeySpaceDetection, model: PreTrainedModel, data: EditData, context: EditContext
) -> tuple[KeySpace, EditReport]:
    """The guard, gamma chosen as the method says."""
    require(context.runtime.numerics)
    torch.set_num_threads(context.runtime.numerics.threads)
    assert data.forget is not None
    device = context.runtime.device
    layers = numbers(model, range(len(blocks(model))) if method.layers is None else method.layers)
    rows = prompts(requested(data.forget, method.contexts), "answer", device)
    found = _keys(model, layers, rows)
    center, reach = around(found.unflatten(0, (len(data.forget.facts) if method.boxes == "fact" else 1, -1)))
    refusal = torch.from_numpy(data.forget.refusal_tokens).to(device)
    says, gamma = method.refusal_logits, method.gamma or 0.0
    guard = KeySpace(layers, method.require, gamma, says, len(center), center.shape[-1], len(refusal)).to(device)
    guard.load_state_dict({"center": center, "reach": reach, "refusal": refusal})
    tokens, told = rows.tokens, dict[str, float]()
    if method.false_positive_rate is not None:
        assert data.retain is not None
        others = prompts(sampled(data.retain, context.seed)[0], "answer", device)
        scores, tokens = guard.scores(_keys(model, layers, others)), tokens + others.tokens
        guard.gamma = largest(scores, method.false_positive_rate)
        told["retain_flagged"] = float((scores <= guard.gamma).float().mean())
    told |= {"gamma": guard.gamma, "forget_flagged": float((guard.scores(found) <= guard.gamma).float().mean())}
    context.runtime.curves.append({"step": 1.0, **told})
    return guard.eval(), EditReport(steps=1, forward_tokens=tokens, notes=told)


def around(found: Tensor) -> tuple[Tensor, Tensor]:
    """Centers and half-widths [N, layers, d_ff] of the boxes around keys [N, n, layers, d_ff]."""
    wide = found.double()
    center = wide.mean(1)
    spread = (wide - center[:, None]).square().sum(1).div(max(1, found.shape[1] - 1)).sqrt().clamp_min(FLOOR)
    k = ((wide - center[:, None]).abs() / spread[:, None]).amax((1, 3))
    reach = (1 + ROUNDING) * k[..., None] * spread
    return center.to(found.dtype), reach.clamp_min(FLOOR).to(found.dtype)


def largest(scores: Tensor, rate: float) -> float:
    """The largest gamma that flags at most this share of scores [n]; with all allowed, the largest score."""
    ascending = scores.sort().values
    allowed = int(rate * len(scores))
    if allowed == len(scores):
        return float(ascending[-1])
    return float(torch.nextafter(ascending[allowed], torch.zeros_like(ascending[0])))


def _keys(model: PreTrainedModel, layers: list[int], rows: Prompts) -> Tensor:
    """At the prompts' last tokens [B, layers, d_ff]."""
    parts = zip(rows.ids.split(CHUNK), rows.read[:, 0].split(CHUNK), strict=True)
    return torch.cat([keys(model, layers, ids, end) for ids, end in parts])
