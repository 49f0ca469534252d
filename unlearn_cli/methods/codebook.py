"""How GRACE's codebook grows by a request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from unlearn_cli.errors import UnlearnError
from unlearn_cli.guards.grace import NOTHING, Codebook
from unlearn_cli.guards.hooks import keys
from unlearn_cli.machine import require
from unlearn_cli.methods.base import EditContext, EditData, EditReport
from unlearn_cli.methods.codebook_values import Search
from unlearn_cli.methods.editing.network import blocks, matrix, numbers, output_of
from unlearn_cli.methods.editing.prompts import Prompts, prompts, stated
from unlearn_cli.methods.grace import GRACE
from unlearn_cli.methods.phrased import sampled
from unlearn_cli.models.forward import answer_logits
from unlearn_cli.streams import generator
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.facts import REFUSAL

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 1024  # rows in one forward pass
GAP = 1e-5  # between the balls of a split
MEMORY = "grace"  # where the codebook is kept from one request to the next


def extend(method: GRACE, model: PreTrainedModel, data: EditData, context: EditContext) -> tuple[Codebook, EditReport]:
    """The codebook that earlier requests left, or an empty one, with the requested facts in it."""
    require(context.runtime.numerics)
    torch.set_num_threads(context.runtime.numerics.threads)
    assert data.forget is not None
    world, depth = data.forget, len(blocks(model))
    (layer,) = numbers(model, [method.layer])
    facts = np.arange(len(world.facts))
    target = np.full(len(facts), REFUSAL) if data.target is None else data.target
    templates = world.language.asked[: method.contexts]
    rows = stated(world, facts, templates, target, "answer", context.runtime.device)
    if layer == depth - 1 and (method.replace == "prompt" or (method.replace == "last" and rows.read.shape[1] > 1)):
        raise UnlearnError(
            f"method.replace: what the last block writes at {method.replace} never reaches every answer token"
        )
    before = context.memory.get(MEMORY) or _empty(method, model, layer, rows, data.retain, context)
    before = _as_wide(before, rows.answers.shape[1])
    answers = _labels(rows, before.labels.shape[1])
    plan = lay_out(before, _keys(model, layer, rows), answers, _right(model, rows), method.shrink_only)
    search = Search(method, model, layer, rows, generator(context.seed, "edit", "values"))
    values = search.run(plan.entry, before.values, len(plan.keys))
    book = context.memory[MEMORY] = _filled(before, plan, values)
    told = {"entries": float(len(book.keys)), "eps": book.eps, "value_loss": search.loss}
    context.runtime.curves.append({"step": float(search.steps), **told})
    above = search.tokens * (depth - 1 - layer) / depth
    return (
        book,
        EditReport(
            steps=search.steps,
            forward_tokens=round(3 * rows.tokens + above),  # keys, answers of the model itself, states to start from
            backward_tokens=round(above),
            trainable_parameters=search.trained * values[:1].numel(),
            notes=told,
        ),
    )


@dataclass
class Plan:
    """A codebook without values, and what each prompt is for."""

    keys: Tensor  # [N, d_ff]
    radii: Tensor  # [N]
    labels: Tensor  # [N, T]
    entry: Tensor  # [P] that is to answer a prompt; -1 for one that is left to the model


def lay_out(before: Codebook, asked: Tensor, answers: Tensor, right: Tensor, shrink_only: bool) -> Plan:
    """Take in prompts one after another by their keys [P, d_ff] and answers [P, T].

    `right` [P] says what the model answers by itself; of these only such as fall on an entry are taken in.
    """
    keys = torch.cat([before.keys, torch.zeros_like(asked)])
    radii = torch.cat([before.radii, asked.new_zeros(len(asked))])
    labels = torch.cat([before.labels, torch.zeros_like(answers)])
    entry, count = torch.full_like(right, -1, dtype=torch.int64), len(before.keys)

    def add(row: int, radius: float) -> None:
        nonlocal count
        keys[count], labels[count], radii[count], entry[row] = asked[row], answers[row], radius, count
        count += 1

    for row, key in enumerate(asked):
        distance, nearest = float("inf"), -1
        if count:
            distances = torch.linalg.vector_norm(keys[:count] - key, dim=1)
            nearest = int(distances.argmin())
            distance = float(distances[nearest])
        radius = float(radii[nearest]) if count else 0.0
        if right[row] and distance > radius:
            continue
        if distance > before.eps + radius:
            add(row, before.eps)
        elif not torch.equal(labels[nearest], answers[row]):
            half = max(distance / 2 - GAP, 0.0)
            radii[nearest] = min(half, radius) if shrink_only else half
            add(row, distance / 2)
        else:
            radii[nearest], entry[row] = max(radius, distance), nearest
    return Plan(keys[:count], radii[:count], labels[:count], entry)


def _labels(rows: Prompts, width: int) -> Tensor:
    """The prompts' answers [P, width]."""
    own = rows.answers if rows.mask is None else rows.answers.masked_fill(~rows.mask, NOTHING)
    return pad(own, (0, width - own.shape[1]), value=NOTHING)


def _as_wide(book: Codebook, label: int) -> Codebook:
    """The codebook with room for answers of `label` tokens."""
    missing = label - book.labels.shape[1]
    if missing <= 0:
        return book
    each = missing if book.replace == "answer" else 0  # values
    sizes = {"label": label, "places": book.values.shape[1] + each}
    wide = Codebook.from_config(book.config | sizes).to(book.values.device)
    columns = {"labels": pad(book.labels, (0, missing), value=NOTHING), "values": pad(book.values, (0, 0, 0, each))}
    wide.load_state_dict(book.state_dict() | columns)
    return wide


def _empty(
    method: GRACE, model: PreTrainedModel, layer: int, rows: Prompts, retain: WorldData | None, context: EditContext
) -> Codebook:
    label = rows.answers.shape[1]
    value, key = matrix(output_of(blocks(model)[layer])).shape
    eps = method.eps
    if eps is None:
        assert retain is not None and method.eps_quantile is not None
        eps = _radius(model, layer, retain, method.eps_quantile, context)
    places = label if method.replace == "answer" else 1
    return Codebook(layer, method.replace, eps, 0, places, label, key, value).to(rows.ids.device)


def _radius(model: PreTrainedModel, layer: int, retain: WorldData, quantile: float, context: EditContext) -> float:
    """Half of a quantile of the distances between a retain prompt's key and the nearest one of another fact."""
    if len(retain.facts) < 2:
        raise UnlearnError("retain.pool: eps_quantile compares the keys of at least two retain facts")
    sentences, facts = sampled(retain, context.seed)
    found = _keys(model, layer, prompts(sentences, "answer", context.runtime.device))
    owner = torch.from_numpy(facts).to(found.device)
    distances = torch.cdist(found, found).masked_fill(owner[:, None] == owner, float("inf")).min(1).values
    return float(distances[distances.isfinite()].double().quantile(quantile)) / 2


def _keys(model: PreTrainedModel, layer: int, rows: Prompts) -> Tensor:
    """At the prompts' last tokens [P, d_ff]."""
    parts = _parts(rows.ids, rows.read[:, 0])
    return torch.cat([keys(model, [layer], ids, end)[:, 0] for ids, end in parts])


@torch.no_grad()
def _right(model: PreTrainedModel, rows: Prompts) -> Tensor:
    """Whether the model by itself says the wanted answers [P]."""
    parts = _parts(rows.ids, rows.read, rows.answers)
    said = torch.cat([answer_logits(model, ids, at).argmax(-1) == answers for ids, at, answers in parts])
    return (said if rows.mask is None else said | ~rows.mask).all(-1)


def _parts(*columns: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(column.split(CHUNK) for column in columns), strict=True)


def _filled(before: Codebook, plan: Plan, values: Tensor) -> Codebook:
    book = Codebook.from_config(before.config | {"entries": len(plan.keys)}).to(values.device)
    state = {"keys": plan.keys, "radii": plan.radii, "labels": plan.labels, "values": values}
    book.load_state_dict(state)
    return book.eval()
