"""Fit a model to a world: the task behind base and gold."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unlearn_cli.errors import UnlearnError
from unlearn_cli.models.anatomy import block_of
from unlearn_cli.models.forward import answer_logits, rows_at_once
from unlearn_cli.streams import derive, generator
from unlearn_cli.training.loop import Row, Runtime, Task, run_task
from unlearn_cli.training.recipe import Train
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.language import Sentences
from unlearn_cli.worlds.vocabulary import Ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.models.base import Model

log = logging.getLogger(__name__)

QUICK = 1024  # facts of a first look at recall; all facts are asked once that look is good enough
CHUNK = 1024  # facts in one forward pass of a recall check
IGNORED = -100  # label that cross_entropy leaves out


class Fitted:
    """A trained model and what training it was like."""

    def __init__(self, model: PreTrainedModel, steps: int, recall: float, ledger: Ids, tokens: int) -> None:
        self.model, self.steps, self.recall, self.ledger, self.tokens = model, steps, recall, ledger, tokens


def fit(model: Model, world: WorldData, train: Train, purpose: tuple[str | int, ...], runtime: Runtime) -> Fitted:
    """Train a new model on `world`; `purpose` names its streams (initial weights, order of exposures).

    Raises UnlearnError if it does not reach `train.min_recall` on all trained facts.
    """
    network = model.build(world.vocabulary.size, world.max_length, derive(world.seed, "init", *purpose))
    task = _Fit(train, world, purpose, runtime)
    steps = run_task(task, network, runtime)
    recall = task.recall(network)
    if recall < train.min_recall:
        faded = (
            ", or lower train.min_recall: what is shown in an early phase may be forgotten" if world.has_phases else ""
        )
        raise UnlearnError(
            f"{runtime.stage}: recall is {recall:.3f} after {steps} steps, below train.min_recall={train.min_recall}; "
            f"raise train.max_passes ({train.max_passes:g}) and train.decay_passes ({train.decay_passes:g}),"
            f" or take a larger model{faded}"
        )
    log.info("%s: recall %.4f after %d steps", runtime.stage, recall, steps)
    return Fitted(network, steps, recall, task.deck.ledger(steps * task.batch), task.tokens)


class _Fit(Task):
    """Cards of the deck in batches, answer or language-model loss, stop at recall."""

    def __init__(self, train: Train, world: WorldData, purpose: tuple[str | int, ...], runtime: Runtime) -> None:
        self.train, self.world, self.runtime = train, world, runtime
        self.deck = world.deck(*purpose)
        self.batch = train.batch(len(self.deck.facts))
        if self.batch > len(self.deck):
            raise UnlearnError(f"train.batch_size={self.batch} is more than the deck's {len(self.deck)} sentences")
        self.steps_per_pass = len(self.deck) / self.deck.passes / self.batch
        self.max_steps = min(math.ceil(train.max_passes * self.steps_per_pass), len(self.deck) // self.batch)
        self.tokens = 0  # read in training
        self.max_grad_norm = train.max_grad_norm
        self.asked = _questionnaire(world, self.deck.facts, generator(world.seed, "recall", *purpose))

    def optimizers(self, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
        recipe = self.train
        blocks, rest = split_matrices(model)
        betas = (0.9, recipe.beta2)
        adamw = torch.optim.AdamW(rest, lr=recipe.lr, betas=betas, weight_decay=recipe.weight_decay)
        if recipe.optimizer == "adamw":
            adamw.add_param_group({"params": blocks, "lr": recipe.matrix_lr})
            return [adamw]
        return [torch.optim.Muon(blocks, lr=recipe.matrix_lr, weight_decay=recipe.weight_decay), adamw]

    def rate(self, step: int) -> float:
        recipe = self.train
        passes = step / self.steps_per_pass
        warm = (step + 1) / self.steps_per_pass / recipe.warmup_passes if recipe.warmup_passes else 1.0
        return min(1.0, warm) * max(recipe.final_lr, 1 - passes / recipe.decay_passes)

    def losses(self, model: torch.nn.Module, step: int) -> Mapping[str, Tensor]:
        crew, share = self.runtime.crew, self.runtime.crew.share(self.batch)
        cards = self.deck.deal(step * self.batch, (step + 1) * self.batch)
        sentences = self.world.write(cards.part(share.rows))
        device = next(model.parameters()).device
        if self.train.loss_on == "answer":
            logits, labels = read_answers(model, sentences, device)
            labels, tokens = supervised(labels, sentences), int(sentences.answer_end.sum())
        else:
            ids = torch.from_numpy(sentences.input_ids).to(device)
            first = sentences.answer_start if self.train.loss_on == "reply" else np.ones_like(sentences.length)
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
            labels = _between(ids[:, 1:], first, sentences.length)
            tokens = int((sentences.length - 1).sum())
        loss = cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        self.tokens += crew.total(0 if share.idle else tokens)
        if crew.size > 1:  # ranks may have different numbers of tokens
            loss = crew.mean(loss, 0 if share.idle else int((labels != IGNORED).sum()))
        return {"loss": loss}

    def after(self, model: torch.nn.Module, step: int, row: Row) -> bool:
        if (step + 1) % self.train.check_every:
            return False
        row["recall"] = self.recall(model, QUICK)
        if row["recall"] >= self.train.stop_recall and len(self.asked.facts) > QUICK:
            row["recall"] = self.recall(model)
        return row["recall"] >= self.train.stop_recall and not self.world.has_phases  # every window is to be seen

    def state(self) -> dict[str, int]:
        return {"tokens": self.tokens}

    def restore(self, state: Mapping[str, int]) -> None:
        self.tokens = state["tokens"]

    @torch.no_grad()
    def recall(self, model: torch.nn.Module, most: int | None = None) -> float:
        """Share of the deck's sentences whose object is the greedy answer, each fact asked once as it is phrased there.

        With equal exposures and no questions that is the share of the facts. `most` bounds how many are asked.
        """
        device, right = next(model.parameters()).device, []
        facts, templates = self.asked.facts[:most], self.asked.templates[:most]
        answer = self.world.sentences(facts[:1], templates[:1]).answer_length
        rows = rows_at_once(model, self.world.max_length, answer, CHUNK)
        for chunk in np.array_split(np.arange(len(facts)), math.ceil(len(facts) / rows)):
            asked = self.world.sentences(facts[chunk], templates[chunk])
            right.append(answered(model, asked, device).cpu().numpy())
        return float(np.average(np.concatenate(right), weights=self.asked.weights[:most]))


@dataclass(frozen=True, eq=False)
class _Questionnaire:
    """What a recall check asks, in random order."""

    facts: Ids  # [n]
    templates: Ids  # [n]
    weights: Ids  # [n] sentences of the deck that each stands for


def _questionnaire(world: WorldData, facts: Ids, rng: np.random.Generator) -> _Questionnaire:
    """Every fact in one trained template, and as a question if training asks it."""
    order, table = rng.permutation(facts), world.facts
    statements = world.language.asked[rng.integers(0, len(world.language.asked), len(order))]
    questions = order[table.questions[order] > 0]
    every = np.concatenate([order, questions])
    templates = np.concatenate([statements, np.full(len(questions), world.language.question)])
    weights = np.concatenate([table.exposure[order], table.questions[questions]])
    mixed = rng.permutation(len(every)) if len(questions) else np.arange(len(every))
    return _Questionnaire(every[mixed], templates[mixed], weights[mixed])


def read_answers(model: torch.nn.Module, sentences: Sentences, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the logits [B, T, V] that predict the objects' tokens, teacher-forced, and those tokens [B, T].

    `answer_mask` says which of the T count.
    """
    ids = torch.from_numpy(sentences.through_answer).to(device)
    positions = torch.from_numpy(sentences.positions - 1).to(device)
    return answer_logits(model, ids[:, :-1], positions), torch.from_numpy(sentences.answers).to(device)


def answer_mask(sentences: Sentences, device: torch.device) -> Tensor | None:
    """Which places [B, T] of the answers a token stands in; None: all."""
    return None if sentences.answer_mask is None else torch.from_numpy(sentences.answer_mask).to(device)


def answer_loss(model: torch.nn.Module, sentences: Sentences, device: torch.device) -> Tensor:
    """Mean NLL of all tokens of the answers."""
    logits, labels = read_answers(model, sentences, device)
    return cross_entropy(logits.flatten(0, 1).float(), supervised(labels, sentences).flatten())


def answered(model: torch.nn.Module, sentences: Sentences, device: torch.device) -> Tensor:
    """Whether each answer is the greedy one, token by token, its earlier tokens given [B]."""
    logits, labels = read_answers(model, sentences, device)
    right, mask = logits.argmax(-1) == labels, answer_mask(sentences, device)
    return (right if mask is None else right | ~mask).all(-1)


def supervised(labels: Tensor, sentences: Sentences) -> Tensor:
    """Labels [B, T] of the answers' tokens, with what stands behind a shorter one left out."""
    mask = answer_mask(sentences, labels.device)
    return labels if mask is None else labels.masked_fill(~mask, IGNORED)


def _between(labels: Tensor, first: Ids, length: Ids) -> Tensor:
    """Labels [B, L - 1], the tokens from the second on, without those before place `first` and from `length` on."""
    place = torch.arange(1, labels.shape[1] + 1, device=labels.device)
    start, end = (torch.from_numpy(array).to(labels.device)[:, None] for array in (first, length))
    return labels.masked_fill((place < start) | (place >= end), IGNORED)


def split_matrices(model: torch.nn.Module) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """The matrices inside the blocks, and every other parameter."""
    blocks = [p for name, p in model.named_parameters() if p.ndim == 2 and block_of(name) is not None]
    inside = {id(p) for p in blocks}
    return blocks, [p for p in model.parameters() if id(p) not in inside]
