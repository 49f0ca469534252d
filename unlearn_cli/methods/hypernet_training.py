"""How a hypernetwork is trained on edits of retain facts: the part of mend.py's `prepare` that needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from unlearn_cli.errors import UnlearnError
from unlearn_cli.machine import require
from unlearn_cli.methods.base import EditContext, EditData, EditReport
from unlearn_cli.methods.hypernet import Hypernet, Matrices, edited, matrices, read_factors
from unlearn_cli.methods.loss import AnswerBatch, kl
from unlearn_cli.methods.mend import MEND
from unlearn_cli.methods.weight_edit import read_tokens
from unlearn_cli.streams import derive, generator
from unlearn_cli.training.fit import answer_mask, read_answers
from unlearn_cli.training.loop import Row, Task, run_task
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.language import Sentences
from unlearn_cli.worlds.vocabulary import Ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FILE = "editor.safetensors"


def train_editor(method: MEND, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
    """Train the hypernetwork on edits of retain facts and write it to the folder; `model` stays as it is."""
    assert data.retain is not None and context.folder is not None
    settle(model, context)
    model.requires_grad_(False)
    task = _Training(method, model, data.retain, context)
    hypernet = fresh(method, task.matrices, context.seed)
    steps = run_task(task, hypernet, context.runtime)
    save_file(hypernet.to("cpu").state_dict(), context.folder / FILE)
    trainable = sum(parameter.numel() for parameter in hypernet.parameters())
    return EditReport(steps, task.forward_tokens, task.backward_tokens, trainable)


def fresh(method: MEND, found: Matrices, seed: int) -> Hypernet:
    """A hypernetwork for these matrices as it is before training."""
    editor = method.editor
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "prepare", "hypernet"))
        return Hypernet(found, editor.rank, editor.hidden_layers, editor.edit_lr)


def written(world: WorldData, facts: Ids, templates: Ids, objects: Ids) -> Sentences:
    """Facts [n] with objects [n] in templates [n, k], those of a fact one behind the other."""
    each = templates.shape[1]
    return world.sentences(np.repeat(facts, each), templates.ravel(), np.repeat(objects, each))


@dataclass(frozen=True, eq=False)
class _Trial:
    """Edited models, and what they are asked; equally many sentences for each."""

    groups: int
    shown: Sentences  # the edited facts, as the editor sees them
    asked: Sentences  # the same in other templates, and facts that must not change
    is_edit: NDArray[np.bool_]  # which of the asked ones were edited


class _Training(Task):
    """Edits of retain facts, judged in other templates and by other facts."""

    def __init__(self, method: MEND, model: PreTrainedModel, world: WorldData, context: EditContext) -> None:
        self.method, self.editor, self.model, self.world = method, method.editor, model, world
        self.seed, self.device = context.seed, context.runtime.device
        self.max_steps, self.max_grad_norm = self.editor.steps, self.editor.max_grad_norm
        self.matrices = matrices(model, method.scope)
        self.forward_tokens = self.backward_tokens = 0
        self.success = 0.0
        self.at_once = min(self.editor.at_once, len(world.facts) // 2)  # the others are to stay as they are
        if not self.at_once:
            raise UnlearnError("prepare: the retain pool has one fact and none that must stay: raise retain.pool")

    def optimizers(self, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
        rates = [parameter for name, parameter in model.named_parameters() if name == "log_lr"]
        rest = [parameter for name, parameter in model.named_parameters() if name != "log_lr"]
        groups = [{"params": rest, "lr": self.editor.lr}, {"params": rates, "lr": self.editor.lr_lr}]
        return [torch.optim.Adam(groups)]

    def rate(self, step: int) -> float:
        return 1 - step / self.max_steps

    def losses(self, model: torch.nn.Module, step: int) -> Mapping[str, Tensor]:
        trial = self._trial(generator(self.seed, "prepare", step, 0))
        change = model(read_factors(self.model, self.matrices, self._count(trial.shown), trial.groups))
        with torch.no_grad():
            before, labels = read_answers(self.model, self._count(trial.asked), self.device)
        with edited(self.matrices, change):
            after, _ = read_answers(self.model, self._count(trial.asked), self.device)
        is_edit = torch.from_numpy(trial.is_edit).to(self.device)
        mask = answer_mask(trial.asked, self.device)
        answers, others = (
            AnswerBatch(after[rows], labels[rows], mask=None if mask is None else mask[rows])
            for rows in (is_edit, ~is_edit)
        )
        drift = others.token_mean(kl(before[~is_edit], others.logits))
        self.success = float(answers.right.float().mean())
        loss = self.editor.c_edit * answers.nll + self.editor.c_loc * drift
        return {"edit": answers.nll, "locality": drift, "loss": loss}

    def after(self, model: torch.nn.Module, step: int, row: Row) -> bool:
        row["success"] = self.success
        return False

    def _trial(self, rng: np.random.Generator) -> _Trial:
        """A step's edited models."""
        editor, world = self.editor, self.world
        facts, others = self._draw(rng)
        targets, (shown, judged) = self._targets(facts, rng), self._templates(facts.size, rng)
        groups, per_group = len(facts), facts.shape[1] * editor.paraphrases
        asked = rng.choice(world.language.asked, others.shape)
        templates = np.concatenate([judged.reshape(groups, -1), asked], 1).ravel()
        every = np.concatenate([np.repeat(facts, editor.paraphrases, 1), others], 1)
        objects = world.stated(every.ravel(), templates).reshape(every.shape)
        objects[:, :per_group] = np.repeat(targets, editor.paraphrases, 1)
        return _Trial(
            groups=groups,
            shown=written(world, facts.ravel(), shown, targets.ravel()),
            asked=world.sentences(every.ravel(), templates, objects.ravel()),
            is_edit=np.tile(np.arange(every.shape[1]) < per_group, groups),
        )

    def _draw(self, rng: np.random.Generator) -> tuple[Ids, Ids]:
        """Facts to edit [G, n] and others that must not change [G, m], none of which its group edits."""
        size = int(rng.integers(1, self.at_once + 1))
        groups = max(1, self.editor.edits // size)
        facts = np.stack([self._together(size, rng) for _ in range(groups)])
        each = -(-self.editor.others // groups)
        return facts, np.stack([self._others(edits, each, rng) for edits in facts])

    def _together(self, size: int, rng: np.random.Generator) -> Ids:
        """Facts that are edited together: of one relation every other time, if it has as many."""
        relation = self.world.facts.relation
        same = np.flatnonzero(relation == rng.choice(relation))
        mixed = len(same) < size or rng.random() < 0.5
        return rng.choice(len(relation) if mixed else same, size, replace=False)

    def _others(self, edits: Ids, n: int, rng: np.random.Generator) -> Ids:
        """Facts that must not change: first of the edited subjects, then of the relations, half of them of any."""
        table = self.world.facts
        left = rng.permutation(np.setdiff1d(np.arange(len(table)), edits))
        subject, relation = (np.isin(column[left], column[edits]) for column in (table.subject, table.relation))
        near = np.concatenate([left[subject], left[relation & ~subject]])
        return np.concatenate([near[: n // 2], rng.choice(left, n)])[:n]

    def _targets(self, facts: Ids, rng: np.random.Generator) -> Ids:
        """Another object of its relation for each fact [G, n]; now and then the refusal for all of a group."""
        table = self.world.facts
        choices = self.world.relations.objects[table.relation[facts]] - 1
        drawn = rng.integers(0, np.maximum(choices, 1))
        refused = (rng.random((len(facts), 1)) < self.editor.refusals) | (choices == 0)
        return np.where(refused, REFUSAL, drawn + (drawn >= table.object[facts]))

    def _templates(self, n: int, rng: np.random.Generator) -> tuple[Ids, Ids]:
        """For each of n edits the templates that it shows and, as far as there are more, others that judge it."""
        asked, shown = self.world.language.asked, min(self.method.contexts, len(self.world.language.asked))
        order = rng.permuted(np.tile(asked, (n, 1)), axis=1)
        left = order[:, shown:] if shown < len(asked) else order
        places = np.arange(self.editor.paraphrases) % left.shape[1]
        return order[:, :shown], left[:, places]

    def _count(self, sentences: Sentences) -> Sentences:
        """Count the tokens of sentences that are read forward and backward."""
        tokens = read_tokens(sentences)
        self.forward_tokens, self.backward_tokens = self.forward_tokens + tokens, self.backward_tokens + tokens
        return sentences


def settle(model: PreTrainedModel, context: EditContext) -> None:
    """On the device and threads of the run."""
    require(context.runtime.numerics)
    torch.set_num_threads(context.runtime.numerics.threads)
    torch.nn.Module.to(model, context.runtime.device)
    model.eval()
