"""Does a white-box tool show which fields a rule depends on? Pando's field F1 (P03).

Zhong et al. 2026 (arXiv 2604.11061). A field is relevant if redrawing it changes more than 1 % of the rule's decisions;
here that is computed, not estimated from 10,000 redraws. Departure: published agents name fields in words; ours name
those that more than half of the trees use which agree with the labels (`pando_agents.py`). Trap: an agent whose trees
all fall names nothing, and scores 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, Floats, MetricValue, Reading, Role
from unlearn_cli.metrics.pando import DIRECTION, Searching, too_few
from unlearn_cli.metrics.pando_agents import SAMPLE_ONLY, SEARCHERS, Bools
from unlearn_cli.metrics.readings import measured
from unlearn_cli.observations.field_scores import TOOLS

NAME = "pando_field_f1"
SCORES = ("f1", "precision", "recall")
NAMED = 0.5  # a field is named if more than this share of the trees use it

Scored = Mapping[str, Floats]  # by agent, [draws, 3]
Read = Mapping[Role, Floats]  # [models, draws]


@component
class PandoFieldF1(Searching):
    """How well the fields that an agent names are those of the rule; 0 to 1, mean over draws of k labelled records.

    /<agent>/f1, /precision, /recall: 1 for exactly the rule's fields; naming all ten has recall 1 and precision d / 10;
    /gain/<tool>: F1 less that of `sample_only`, -1 to 1.
    """

    VERSION: ClassVar[int] = 1

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`pando_field_f1/<agent>/<f1|precision|recall>` and `/gain/<tool>`."""
        found = self._scored(evaluation)
        values = {}
        for agent in SEARCHERS:
            for place, name in enumerate(SCORES):
                values[f"{agent}/{name}"] = self._value(_read(found, agent, place))
        for tool in TOOLS:
            f1 = SCORES.index("f1")
            values[f"gain/{tool}"] = self._value(_read(found, tool, f1), less=_read(found, SAMPLE_ONLY, f1))
        return {f"{NAME}/{name}": value for name, value in values.items()}

    def _scored(self, evaluation: Evaluation) -> dict[Role, list[Scored]]:
        """Of every model of each role."""
        found, tasks = self.results(evaluation, self.k, SEARCHERS), self.tasks(evaluation)
        scored: dict[Role, list[Scored]] = {}
        for role, models in found.items():
            relevant = [task.relevant for task in tasks[role] if len(task.subject) > self.k]
            scored[role] = [
                {agent: np.array([field_scores(use > NAMED, truth) for use in one[agent].use]) for agent in SEARCHERS}
                for one, truth in zip(models, relevant, strict=True)
            ]
        return scored

    def _value(self, read: Read, less: Read | None = None) -> MetricValue:
        """Mean over models and draws."""
        means = {
            role: Reading(float(scores.mean() - (less[role].mean() if less else 0)), scores.size)
            if scores.size
            else None
            for role, scores in read.items()
        }
        edited, base, gold = means["edited"], means["base"], means["gold"]
        return measured(edited, "share", DIRECTION, base=base, gold=gold, undefined=too_few(self.k))


def _read(found: Mapping[Role, list[Scored]], agent: str, place: int) -> Read:
    return {role: np.array([one[agent][:, place] for one in models]) for role, models in found.items()}


def field_scores(named: Bools, relevant: Bools) -> tuple[float, float, float]:
    """F1, precision and recall of the fields [p] that are named; 0 where there is none."""
    hits = float((named & relevant).sum())
    if not hits:
        return 0.0, 0.0, 0.0
    precision, recall = hits / named.sum(), hits / relevant.sum()
    return 2 * precision * recall / (precision + recall), precision, recall
