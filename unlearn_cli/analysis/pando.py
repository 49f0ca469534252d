"""Which interpretability tools see a hidden rule, over many models: Pando's P04 and P07.

Zhong et al. 2026 (arXiv 2604.11061). Every base of a rules world is a model organism; organisms with the same scenario,
explanation and depth are a cell. Intervals of a cell are Student's t over its organisms. The two numbers that need many
organisms are here: the AUC of a field's score for whether the field is in the rule, and the variance of scores that
the field, its value, and its being in the rule explain, one after the other. Order matters: what a rule's fields have
in common with the field's identity is counted for the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from unlearn_cli.analysis.attacked import observed
from unlearn_cli.analysis.runs import Run
from unlearn_cli.evaluation import Floats
from unlearn_cli.metrics.pando_agents import Task

OBSERVATION = {"_target_": "unlearn_cli.observations.field_scores.FieldScores"}

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Organism:
    """One base with a hidden rule, and the run that measured it."""

    run: Run
    scenario: str
    explanation: str
    depth: int
    follows: float  # share of reserved records on which it does what its rule says
    task: Task

    def value(self, key: str) -> float | None:
        """What a metric says of it."""
        return self.run.value(key, "base")


@dataclass(frozen=True)
class Split:
    """Shares of the scores' variance that are explained, each beyond the ones before."""

    field: float
    value: float
    in_rule: float


def organisms(runs: Sequence[Run]) -> list[Organism]:
    """The bases of runs, each once; models that follow no rule on both decisions have no scores and are missing."""
    found: dict[str, Organism] = {}
    for run in runs:
        base = run.result.stages["train"]["digest"]
        for inputs, arrays in observed(run.result, OBSERVATION) if base not in found else ():
            if inputs["model"] == base:
                world = inputs["world"]
                cell = world["scenario"], world["explanation"], world["depth"]
                found[base] = Organism(run, *cell, float(arrays["followed"].mean()), Task.of(arrays))
    return list(found.values())


def field_auc(tasks: Sequence[Task], tool: str) -> Floats:
    """P(score of a model with the field in its rule > of one without) over all records, of each field [p].

    NaN for a field that all rules have, or none: it has no AUC.
    """
    scores = np.concatenate([task.scores[tool] for task in tasks])
    inside = np.concatenate([np.broadcast_to(task.relevant, task.scores[tool].shape) for task in tasks])
    return np.array([_auc(*columns) for columns in zip(scores.T, inside.T, strict=True)])


def mean_auc(tasks: Sequence[Task], tool: str) -> float | None:
    """Mean over the fields that have one."""
    found = field_auc(tasks, tool)
    return float(np.nanmean(found)) if np.isfinite(found).any() else None


def variance(tasks: Sequence[Task], tool: str) -> Split | None:
    """Nested least squares on the scores of the fields that are not integers; None where a part cannot be told apart.

    With one model, or models with the same rule, being in the rule is a matter of the field's identity.
    """
    kinds = np.flatnonzero(~tasks[0].ordered)
    scores = np.concatenate([task.scores[tool][:, kinds].ravel() for task in tasks])
    values = np.concatenate([task.values[:, kinds].ravel() for task in tasks])
    inside = np.concatenate([np.tile(task.relevant[kinds], len(task.values)) for task in tasks])
    field = np.tile(np.arange(len(kinds)), len(scores) // len(kinds))
    fields = (field[:, None] == np.arange(len(kinds))).astype(float)
    taken = [fields * (values == value)[:, None] for value in range(1, int(tasks[0].sizes[kinds].max()))]
    blocks = [fields, np.column_stack([fields, *taken]), np.column_stack([fields, *taken, inside])]
    if np.linalg.matrix_rank(blocks[2]) == np.linalg.matrix_rank(blocks[1]) or scores.std() == 0:
        return None
    explained = [_explained(block, (scores - scores.mean()) / scores.std()) for block in blocks]
    return Split(explained[0], explained[1] - explained[0], explained[2] - explained[1])


def _auc(scores: Floats, inside: Bools) -> float:
    members, others = int(inside.sum()), int((~inside).sum())
    if not members or not others:
        return float("nan")
    return float((rankdata(scores)[inside].sum() - members * (members + 1) / 2) / (members * others))


def _explained(columns: Floats, scores: Floats) -> float:
    """R² of standardised scores; the columns add up to a constant."""
    fitted = columns @ np.linalg.lstsq(columns, scores, rcond=None)[0]
    return float(1 - ((scores - fitted) ** 2).mean())
