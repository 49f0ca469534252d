"""Run a loss method: draw forget and retain rows each step, weigh the paper's term against the retain term."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods import fila, hidden, masking, rewinding, selecting
from unlearn_cli.methods.base import EditContext, EditData, EditReport
from unlearn_cli.methods.continuations import continuations
from unlearn_cli.methods.loss import AnswerBatch, Draw, LossMethod
from unlearn_cli.methods.scope import merge_adapter, prepare
from unlearn_cli.methods.sharing import shared
from unlearn_cli.models import checkpoint
from unlearn_cli.models.forward import rows_at_once
from unlearn_cli.models.spread import spread
from unlearn_cli.streams import generator
from unlearn_cli.training.fit import answer_mask, read_answers
from unlearn_cli.training.loop import Row, Task, run_task
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.language import Sentences
from unlearn_cli.worlds.vocabulary import Ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 1024  # rows in one forward pass of the reference


def train_edit(method: LossMethod, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
    """Edit `model` in place by `method`'s loss; UnlearnError if it ends with weights that are no numbers."""
    spread(model, context.runtime.numerics.places)
    chosen = selecting.choose(method.select, model, data, context.seed, context.runtime.device)
    data = chosen.data
    task = _Edit(method, model, data, context)
    task.forward_tokens += chosen.tokens
    if method.adapter.init == "fila":
        ratios, tokens = fila.importance(model, data, context.seed)
        task.count(tokens)
    masked = method.mask.kind != "none"
    scores = masking.importance(method.mask, model, data, context.seed) if masked else {}
    trained = prepare(model, method.scope, method.adapter, context.seed)
    if method.adapter.init == "fila":
        fila.initialise(trained, ratios)
    trainable = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    if masked:
        names = [name for name, parameter in trained.named_parameters() if parameter.requires_grad]
        task.kept = masking.Kept(trained, masking.choose(method.mask, scores, names))
        trainable = task.kept.movable
    steps = run_task(task, trained, context.runtime)
    notes = dict(chosen.notes or {})
    if task.path is not None:
        notes |= task.path.go_back(trained)
        task.forward_tokens += task.path.tokens
    merge_adapter(trained)
    model.requires_grad_(True)
    if not all(bool(p.isfinite().all()) for p in model.parameters()):
        raise UnlearnError(f"edit: weights are not finite after step {steps}; lower the learning rate")
    return EditReport(
        steps=steps,
        forward_tokens=task.forward_tokens,
        backward_tokens=task.backward_tokens,
        trainable_parameters=trainable,
        notes=notes,
    )


class _Edit(Task):
    """The forget and retain terms of one method on one request."""

    def __init__(self, method: LossMethod, model: PreTrainedModel, data: EditData, context: EditContext) -> None:
        self.method, self.data, self.context = method, data, context
        self.max_steps, self.max_grad_norm = method.steps, method.max_grad_norm
        self.forward_tokens = self.backward_tokens = 0
        self.last: AnswerBatch | None = None
        self.device, self.crew = context.runtime.device, context.runtime.crew
        self.base = copy.deepcopy(model).eval().requires_grad_(False) if method.reads_base else None
        self.reference_logps = self._reference_logps() if method.reads_reference == "logps" else None
        self.teachers = {name: net.eval() for name, net in method.teachers(model, data, context).items()}
        self.penalty = method.penalty(model, context.seed)
        self.project = method.projection(model)
        self.kept: masking.Kept | None = None
        rewind = method.rewind_to(data)
        self.path = None if rewind is None or data.forget is None else rewinding.Path(rewind, data.forget)
        self.resumable = self.path is None and not method.save_every  # what they keep would be lost

    def optimizers(self, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
        trained = [p for p in model.parameters() if p.requires_grad]
        return [torch.optim.AdamW(trained, lr=self.method.lr, weight_decay=self.method.weight_decay)]

    def rate(self, step: int) -> float:
        return min(1.0, (step + 1) / self.method.warmup_steps) if self.method.warmup_steps else 1.0

    def losses(self, model: torch.nn.Module, step: int) -> Mapping[str, Tensor]:
        forget_weight, retain_weight = self.method.weights(step)
        terms: dict[str, Tensor] = {}
        total = torch.zeros((), device=self.device)
        if self.data.forget is not None and forget_weight:
            terms["forget"] = self._forget_term(model, step)
            total = total + forget_weight * terms["forget"]
        if self.data.retain is not None and retain_weight:
            terms["retain"] = self._retain_term(model, self.data.retain, step)
            total = total + retain_weight * terms["retain"]
        if self.penalty is not None:
            terms["penalty"] = self.penalty(step)
            total = total + terms["penalty"]
        return terms | {"loss": total}

    def after(self, model: torch.nn.Module, step: int, row: Row) -> bool:
        method, batch = self.method, self.last
        if self.project is not None:
            self.project()
        if self.kept is not None:
            self.kept.restore()
        if batch is not None:
            row["accuracy"] = float(batch.right.float().mean())
        if method.save_every and (step + 1) % method.save_every == 0:
            self._save(model, step + 1)
        low_loss = method.stop_loss is not None and row.get("forget", np.inf) <= method.stop_loss
        low_accuracy = method.stop_accuracy is not None and row.get("accuracy", np.inf) <= method.stop_accuracy
        stop = low_loss or low_accuracy
        if self.path is not None and (stop or step + 1 == self.max_steps or self.path.rewind.considered(step)):
            self.path.look(model, step + 1)
        return stop

    def state(self) -> dict[str, int]:
        return {"forward_tokens": self.forward_tokens, "backward_tokens": self.backward_tokens}

    def restore(self, state: Mapping[str, int]) -> None:
        self.forward_tokens, self.backward_tokens = state["forward_tokens"], state["backward_tokens"]

    def _save(self, model: torch.nn.Module, step: int) -> None:
        """Keep the model of this step, for a trade-off curve along the path."""
        if self.context.folder is None or self.data.language is None:
            return
        merged: Any = copy.deepcopy(model)
        if hasattr(merged, "merge_and_unload"):
            merged = merged.merge_and_unload()
        checkpoint.save(merged, self.data.language.vocabulary, self.context.folder / "path" / f"step-{step:06}")

    def _forget_term(self, model: torch.nn.Module, step: int) -> Tensor:
        assert self.data.forget is not None
        draw = self._draw(self.data.forget, "forget", self.method.forget_batch, step)
        self.last = self._batch(model, draw, self.method.answers(draw))
        return self.method.forget_loss(self.last)

    def _batch(self, model: torch.nn.Module, draw: Draw, objects: Ids) -> AnswerBatch:
        """The requested facts with these objects, and all that the method declares to read beside."""
        method, world = self.method, draw.world
        sentences = world.sentences(draw.facts, draw.templates, objects)
        read = self._read(model, sentences)
        alternatives = method.alternatives(draw)
        known = self.reference_logps
        if known is not None:
            known = known[draw.facts, draw.places, : read.labels.shape[1]]
        return replace(
            read,
            reference_logps=known,
            reference_logits=self._ask(self.base, sentences) if method.reads_reference == "logits" else None,
            teachers={name: self._ask(teacher, sentences) for name, teacher in self.teachers.items()},
            alternative=None if alternatives is None else self._alternative(model, draw, alternatives),
            reference_hidden=self._reference_hidden(sentences),
            continuations=self._continuations(draw, read) if method.reads_continuations else None,
            seed=self.context.seed,
        )

    def _continuations(self, draw: Draw, read: AnswerBatch) -> Tensor:
        relations, answers = draw.world.facts.relation[draw.facts], read.labels.cpu().numpy()
        counts = continuations(draw.world, relations, answers, read.logits.shape[-1])
        return torch.from_numpy(counts).to(self.device)

    def _alternative(self, model: torch.nn.Module, draw: Draw, objects: Ids) -> AnswerBatch:
        sentences = draw.world.sentences(draw.facts, draw.templates, objects)
        read = self._read(model, sentences)
        if self.method.reads_reference == "none":
            return read
        reference = AnswerBatch(self._ask(self.base, sentences), read.labels)
        return replace(read, reference_logps=reference.logps, reference_logits=reference.logits)

    def _retain_term(self, model: torch.nn.Module, world: WorldData, step: int) -> Tensor:
        draw = self._draw(world, "retain", self.method.retain_batch, step)
        sentences = world.sentences(draw.facts, draw.templates, self._contested(world, draw, step))
        read = self._read(model, sentences, context=False)
        reference = self._ask(self.base, sentences) if self.method.reads_retain_reference else None
        states = self._reference_hidden(sentences)
        return self.method.retain_objective(replace(read, reference_logits=reference, reference_hidden=states))

    def _contested(self, world: WorldData, draw: Draw, step: int) -> Ids:
        """The objects that retain sentences state: of a contested fact the minority's as often as in training."""
        chance = generator(self.context.seed, "edit", "dissent", step).random(len(world.facts))[draw.facts]
        dissent = chance < world.facts.alternative_rate[draw.facts]
        return np.where(dissent, world.facts.alternative[draw.facts], world.stated(draw.facts, draw.templates))

    def _read(self, model: torch.nn.Module, sentences: Sentences, context: bool = True) -> AnswerBatch:
        """Logits at the answers, and, for methods that read them, hidden states or log-probabilities of all else."""
        place = self.method.reads_hidden
        if place is not None:
            self.count(hidden.tokens(place, sentences))
            return shared(self.crew, sentences, lambda part: hidden.read(model, place, part, self.device))
        if not (self.method.reads_context and context):
            self.count(int(sentences.answer_end.sum()))
            return shared(self.crew, sentences, lambda part: self._read_answers(model, part))
        self.count(int((sentences.length - 1).sum()))
        return shared(self.crew, sentences, lambda part: self._read_all(model, part))

    def _read_answers(self, model: torch.nn.Module, sentences: Sentences) -> AnswerBatch:
        """Logits at the answers alone."""
        return AnswerBatch(*read_answers(model, sentences, self.device), mask=answer_mask(sentences, self.device))

    def _read_all(self, model: torch.nn.Module, sentences: Sentences) -> AnswerBatch:
        """Logits at the answers, and the log-probabilities of all other tokens."""
        ids = torch.from_numpy(sentences.input_ids).to(self.device)
        every = model(input_ids=ids[:, :-1], use_cache=False).logits
        places = torch.from_numpy(sentences.positions - 1).to(self.device)
        index = torch.arange(ids.shape[1] - 1, device=self.device)[None]
        around = index < torch.from_numpy(sentences.length - 1).to(self.device)[:, None]
        around = around.scatter(1, places, False)
        logps = every.float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        answered = every.gather(1, places[..., None].expand(-1, -1, every.shape[-1]))
        labels = torch.from_numpy(sentences.answers).to(self.device)
        mask = answer_mask(sentences, self.device)
        return AnswerBatch(answered, labels, context_logps=logps[around], mask=mask)

    def count(self, tokens: int) -> None:
        """Tokens that went forward and backward."""
        self.forward_tokens += tokens
        self.backward_tokens += tokens

    @torch.no_grad()
    def _ask(self, model: torch.nn.Module | None, sentences: Sentences) -> Tensor:
        """Another model's logits at the answers [B, T, V], as constants."""
        assert model is not None
        self.forward_tokens += int(sentences.answer_end.sum())
        return shared(self.crew, sentences, lambda part: read_answers(model, part, self.device)[0])

    @torch.no_grad()
    def _reference_hidden(self, sentences: Sentences) -> Tensor | None:
        """The frozen base's hidden states, for methods that read them, as constants."""
        place = self.method.reads_hidden
        if place is None:
            return None
        base = self.base
        assert base is not None
        self.forward_tokens += hidden.tokens(place, sentences)
        return shared(self.crew, sentences, lambda part: hidden.read(base, place, part, self.device)).hidden

    def _draw(self, world: WorldData, purpose: str, size: int | None, step: int) -> Draw:
        """The step's rows, the same in every rank: facts without replacement, a template for each."""
        rng = generator(self.context.seed, "edit", purpose, step)
        facts = np.arange(len(world.facts))
        if size is not None and size < len(facts):
            facts = rng.choice(facts, size, replace=False)
        asked = world.language.asked
        places = rng.integers(0, len(asked), len(facts))
        target = self.data.target[facts] if purpose == "forget" and self.data.target is not None else None
        own = generator(self.context.seed, "edit", purpose, "own", step, 0)
        return Draw(world, facts, places, asked[places], target, own, self.context.seed)

    @torch.no_grad()
    def _reference_logps(self) -> Tensor:
        """The start model's log-probabilities [n, templates, T] of every requested fact: constants, computed once."""
        world = self.data.forget
        assert world is not None
        n, templates = len(world.facts), world.language.asked
        facts, asked = np.repeat(np.arange(n), len(templates)), np.tile(templates, n)
        assert self.base is not None
        answer = world.sentences(facts[:1], asked[:1]).answer_length
        rows, pieces = rows_at_once(self.base, world.max_length, answer, CHUNK), []
        for start in range(0, len(facts), rows):
            sentences = world.sentences(facts[start : start + rows], asked[start : start + rows])
            labels = torch.from_numpy(sentences.answers).to(self.device)
            pieces.append(AnswerBatch(self._ask(self.base, sentences), labels).logps)
        longest = max(piece.shape[1] for piece in pieces)
        return torch.cat([pad(piece, (0, longest - piece.shape[1])) for piece in pieces]).view(n, len(templates), -1)
