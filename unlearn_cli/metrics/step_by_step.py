"""Does it come back step by step? Indirect questions, and elimination by what follows from the fact.

After Sleek (arXiv 2506.17279: direct, indirect, implied prompts); the protocol on generated facts is this project's.
The direct question is `candidate_accuracy/forget`. Traps: elimination has a chance level; and a transcript is a
context, which models trained on single sentences do not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Evaluation, Floats, MetricValue
from unlearn_cli.metrics.attack import Budget
from unlearn_cli.metrics.probing import ROLES, splits_of
from unlearn_cli.metrics.prompt_attack import ROWS, PromptAttack
from unlearn_cli.metrics.readings import mean_reading, measured
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.dialogue import Dialogue, Eliminated
from unlearn_cli.statistics import Part

Steps = Literal["indirect", "implied"]


@component
class StepByStep(PromptAttack):
    """Accuracy on requested facts at the end of a dialogue (indirect), or by elimination in nested worlds (implied).

    indirect: other facts of the subject are asked first and the model's answers stand in the transcript. implied: each
    object's probability times the probability that the object's nested value is the one that the subject inherits.
    /bits = log2 O - entropy, what the model commits to, right or wrong: 0 for a uniform model, log2 O for a sure one.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "step_by_step"

    type: Steps = "implied"
    hops: Count = 3  # indirect: questions before the one that counts
    rows: Count | None = None  # most prompts of a split; null: 200 with a small budget, 1000 with the paper's
    budget: Budget = "small"

    @property
    def label(self) -> str:
        """`step_by_step_<type>`."""
        return f"{self.name}_{self.type}"

    @property
    def attack(self) -> Observation:
        """The questions within the budget."""
        rows = self.rows or ROWS[self.budget]
        return Dialogue(hops=self.hops, rows=rows) if self.type == "indirect" else Eliminated(rows=rows)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """The attack's values, and `/bits`."""
        values = dict(super().compute(evaluation))
        first = values.get(f"{self.label}/forget")
        if first is None or first.status != "ok":
            return values
        return {**values, f"{self.label}/bits": self._bits(evaluation)}

    def _bits(self, evaluation: Evaluation) -> MetricValue:
        split = splits_of(evaluation.probes, "forget")[0]
        read = {}
        for role in ROLES:
            found = evaluation.seen(self.attack, role)
            rows = split.rows[np.isin(split.rows, found[0]["rows"])] if found else split.rows[:0]
            values = [_bits_of(arrays, np.searchsorted(arrays["rows"], rows)) for arrays in found]
            parts = [Part(np.mean(values, axis=0), evaluation.probes.cluster[rows])] if found else []
            read[role] = mean_reading(parts, evaluation.bootstrap)
        return measured(read["edited"], "bits", "to_gold", base=read["base"], gold=read["gold"])


def _bits_of(arrays: Arrays, place: np.ndarray) -> Floats:
    """log2 O - entropy of the distribution over the relation's objects, of each item."""
    logps = arrays["candidate_logps"][0, place].astype(np.float64)
    logps = logps - logps.max(1, keepdims=True)
    p = np.exp(logps)
    p /= p.sum(1, keepdims=True)
    entropy = -(p * np.log2(np.where(p > 0, p, 1))).sum(1)
    found: Floats = np.log2((logps > -np.inf).sum(1)) - entropy
    return found
