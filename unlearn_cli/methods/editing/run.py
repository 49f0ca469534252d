"""The procedure of every editor in closed form: read keys, find values, solve, add to the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unlearn_cli.errors import UnlearnError
from unlearn_cli.machine import require
from unlearn_cli.methods.base import EditContext, EditData, EditReport
from unlearn_cli.methods.editing.editor import Editor, Wanted
from unlearn_cli.methods.editing.network import at, blocks, matrix, numbers, output_of
from unlearn_cli.methods.editing.prompts import Prompts, Reading, others, prompts, read, sited, stated
from unlearn_cli.methods.editing.value import Asked, find
from unlearn_cli.methods.editing.write import write_of
from unlearn_cli.streams import generator
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.vocabulary import Ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 1024  # rows in one forward pass
MEMORY = "editor"  # of a sequence of requests

# Of F facts: keys of a block, means over contexts and those of the first [F, S, d_ff], and the highest block's mean
# output [F, S, d], at the sites, in float64.
State = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class _Aim:
    """What facts are to become."""

    goal: Tensor  # [F, S, d] that the highest edited block is to put out, a mean over contexts
    losses: list[float]  # of the values found [F]
    state: State  # at the highest edited block, before the edit
    inside: Tensor | None  # [F, S] which sites there are, where answers differ in their number of tokens


@dataclass(frozen=True, eq=False)
class _Known:
    """What an editor that remembers takes to the next request, by block."""

    moments: dict[int, Tensor]  # C of the model before the first request
    earlier: dict[int, Tensor] = field(default_factory=dict)  # K K' of the keys edited so far


def run_editor(editor: Editor, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
    """Edit `model` in place."""
    require(context.runtime.numerics)
    torch.set_num_threads(context.runtime.numerics.threads)
    network: Any = model
    network.to(context.runtime.device).eval().requires_grad_(False)
    run = _Run(editor, model, data, context)
    notes = run.edit()
    network.requires_grad_(True)
    if not all(bool(p.isfinite().all()) for p in model.parameters()):
        raise UnlearnError("edit: weights are not finite after the edit; raise method.moment.ridge")
    return EditReport(
        steps=run.steps,
        forward_tokens=round(run.forward_tokens),
        backward_tokens=round(run.backward_tokens),
        trainable_parameters=sum(matrix(module).numel() for module in run.modules.values()),
        notes=notes,
    )


class _Run:
    """One edit of one model."""

    def __init__(self, editor: Editor, model: PreTrainedModel, data: EditData, context: EditContext) -> None:
        assert data.forget is not None and data.retain is not None
        self.editor, self.model, self.context = editor, model, context
        self.world, self.retain, self.device = data.forget, data.retain, context.runtime.device
        self.target = np.full(len(self.world.facts), REFUSAL) if data.target is None else data.target
        self.templates = self.world.language.asked[: editor.contexts]
        every = blocks(model)
        self.depth, self.layers = len(every), numbers(model, editor.edited_layers)
        if editor.site == "subject" and self.layers[-1] == self.depth - 1:
            raise UnlearnError("method.site: what the last block writes at the subject never reaches the answer")
        self.modules = {layer: output_of(every[layer]) for layer in self.layers}
        self.writes = {layer: write_of(model, layer) for layer in self.layers}
        self.steps, self.forward_tokens, self.backward_tokens = 0, 0.0, 0.0  # tokens through all blocks

    def edit(self) -> dict[str, float]:
        """Edit all facts, and say how that went."""
        known = self._known()
        facts = np.arange(len(self.world.facts))
        groups = facts[:, None] if self.editor.one_by_one else [facts]
        losses = [loss for number, group in enumerate(groups) for loss in self._edit(group, known, number)]
        told = {"value_loss": float(np.mean(losses))}
        for layer, moment in known.moments.items():
            told |= {f"layer_{layer}/{name}": value for name, value in self.editor.describe(moment).items()}
        return told

    def _known(self) -> _Known:
        if not self.editor.remembers:
            return _Known(self._moments())
        if MEMORY not in self.context.memory:
            self.context.memory[MEMORY] = _Known(self._moments())
        known: _Known = self.context.memory[MEMORY]
        return known

    def _moments(self) -> dict[int, Tensor]:
        """C with its ridge for each edited block, from retain facts in the unedited model."""
        world, how = self.retain, self.editor.moment
        asked, pairs = world.language.asked, len(world.facts) * len(world.language.asked)
        if not pairs:
            raise UnlearnError("retain.pool: it holds no fact, and editors take the moment of old keys from it")
        chosen = generator(self.context.seed, "edit", "moment").choice(pairs, min(how.sentences, pairs), replace=False)
        total = dict.fromkeys(self.layers, torch.zeros(()))
        count = 0
        for part in np.array_split(chosen, -(-len(chosen) // CHUNK)):
            facts, templates = part // len(asked), asked[part % len(asked)]
            written = world.sentences(facts, templates)
            fits = sited(written, self.editor.site)
            if not fits.any():
                continue
            rows = prompts(world.sentences(facts[fits], templates[fits]), self.editor.site, self.device)
            for layer, keys in self._read(rows, self.layers).keys.items():
                flat = _flat(keys, rows.sites_mask).double()
                total[layer] = total[layer].to(flat) + flat.T @ flat
            count += len(flat)
        if not count:
            raise UnlearnError("method.site: 'subject' given, and no retain row names one; 'answer', or name subjects")
        return {layer: _ridged(moment / count, how.ridge) for layer, moment in total.items()}

    def _edit(self, facts: Ids, known: _Known, number: int) -> list[float]:
        """Edit these facts together; returns their final losses."""
        top = self.layers[-1]
        aims = [self._aim(rows, part, top) for rows, part in self._chunks(facts)]
        inside = [aim.inside for aim in aims]
        goal = _columns([aim.goal for aim in aims], inside)
        losses = [loss for aim in aims for loss in aim.losses]
        for place, layer in enumerate(self.layers):
            states = [aim.state for aim in aims] if layer == top == self.layers[0] else self._states(facts, layer)
            keys, first, now = (_columns(column, inside) for column in zip(*states, strict=True))
            earlier = known.earlier.get(layer)
            share = (goal - now) / (len(self.layers) - place)
            wanted = Wanted(keys, first, self._change(layer, keys, share), len(facts), earlier)
            weight = matrix(self.modules[layer])
            weight += self.editor.delta(known.moments[layer], wanted).to(weight.dtype)
            if self.editor.remembers:
                gram = wanted.keys @ wanted.keys.T
                known.earlier[layer] = gram if earlier is None else earlier + gram
        self.context.runtime.curves.append({"step": float(number + 1), "value_loss": float(np.mean(losses))})
        return losses

    def _aim(self, rows: Prompts, facts: Ids, top: int) -> _Aim:
        """Search what block `top` is to put out at the sites."""
        editor = self.editor
        reading = self._read(rows, [top])
        state = self._state(reading, rows, top)
        every = np.repeat(np.arange(len(facts)), len(self.templates))
        asked, around = self._asked(rows, every, reading, top), None
        if editor.value.kl and (more := others(self.world, facts, int(self.templates[0]), editor.site, self.device)):
            around = self._asked(*more, self._read(more[0], [top]), top)
        v0 = state[2]
        if asked.values is not None:
            v0 = self._mean(asked.values)
        elif editor.anchor == "mlp":
            v0 = self._mean(asked.write(self.modules[top](reading.keys[top])))
        found = find(self.model, top, asked, around, v0.to(reading.hidden.dtype), editor.value)
        tokens = rows.tokens + (0 if around is None else around.rows.tokens)
        above = tokens * found.steps * (self.depth - 1 - top) / self.depth
        self.forward_tokens, self.backward_tokens = self.forward_tokens + above, self.backward_tokens + above
        self.steps += found.steps
        inside = None if rows.sites_mask is None else rows.sites_mask[:: len(self.templates)]
        return _Aim(state[2] + asked.effect(found.delta).double(), found.loss.tolist(), state, inside)

    def _asked(self, rows: Prompts, owner: Ids, reading: Reading, top: int) -> Asked:
        """Rows for a search of what the matrix of block `top` puts out."""
        write = self.writes[top]
        values = None if write.norm is None else self.modules[top](reading.keys[top])
        return Asked(rows, torch.from_numpy(owner).to(self.device), reading.hidden, write, values)

    def _change(self, layer: int, keys: Tensor, wanted: Tensor) -> Tensor:
        """The change of the matrix's outputs at keys [d_ff, m] by which the block's change by `wanted` [d, m]."""
        module: Any = self.modules[layer]
        values = module(keys.T.to(module.weight.dtype)).double()
        return self.writes[layer].change(values, wanted.T).T

    def _states(self, facts: Ids, layer: int) -> list[State]:
        """What the model so far computes on these facts."""
        layers = sorted({layer, self.layers[-1]})
        return [self._state(self._read(rows, layers), rows, layer) for rows, _ in self._chunks(facts)]

    def _state(self, reading: Reading, rows: Prompts, layer: int) -> State:
        keys = reading.keys[layer].double()
        return self._mean(keys), keys[:: len(self.templates)], self._mean(at(reading.hidden, rows.sites).double())

    def _chunks(self, facts: Ids) -> Iterator[tuple[Prompts, Ids]]:
        size = max(1, CHUNK // len(self.templates))
        for part in np.array_split(facts, -(-len(facts) // size)):
            yield stated(self.world, part, self.templates, self.target[part], self.editor.site, self.device), part

    def _read(self, rows: Prompts, layers: list[int]) -> Reading:
        self.forward_tokens += rows.tokens * (max(layers) + 1) / self.depth
        return read(self.model, rows, layers)

    def _mean(self, x: Tensor) -> Tensor:
        """Over the contexts of each fact: [F * C, S, d] to [F, S, d]."""
        return x.unflatten(0, (-1, len(self.templates))).mean(1)


def _columns(chunks: Sequence[Tensor], inside: Sequence[Tensor | None]) -> Tensor:
    """Chunks [F, S, d] of facts: [d, m], a column for each fact and site."""
    return torch.cat([_flat(x, mask) for x, mask in zip(chunks, inside, strict=True)]).double().T


def _flat(x: Tensor, mask: Tensor | None) -> Tensor:
    """[B, S, d] to [m, d], the sites that there are."""
    return x.flatten(0, 1) if mask is None else x[mask]


def _ridged(moment: Tensor, ridge: float) -> Tensor:
    return moment + ridge * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
