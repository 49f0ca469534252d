"""Do a tool's scores tell the fields of a rule from the others? Pando's per-field signal (P04), in one model.

Zhong et al. 2026 (arXiv 2604.11061) take the AUC of each field over many models, with and without it in their rule; see
`analysis/pando.py`, which also splits the scores' variance. Within one model a field either is in the rule or is not,
so that the AUC here is over the fields of a record instead, and the split does not exist. Trap: a tool that scores some
field names high whatever the rule is, as the logit lens does, is above or below 0.5 by luck: many models are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, Floats, MetricValue, Role
from unlearn_cli.metrics.pando import DIRECTION, Pando
from unlearn_cli.metrics.pando_agents import Bools, Task
from unlearn_cli.metrics.readings import mean_reading, measured
from unlearn_cli.observations.field_scores import TOOLS
from unlearn_cli.statistics import Part

NAME = "pando_signal"
NO_OTHERS = "every field is in the rule, or none is: there is nothing to tell apart"


@component
class PandoSignal(Pando):
    """/auc/<tool>: P(a field of the rule scores higher than another one of the same record), ties one half; mean over
    records, 0 to 1, 0.5 where the scores say nothing.
    """

    VERSION: ClassVar[int] = 1

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`pando_signal/auc/<tool>`."""
        tasks = self.tasks(evaluation)
        return {f"{NAME}/auc/{tool}": self._value(evaluation, tasks, tool) for tool in TOOLS}

    def _value(self, evaluation: Evaluation, tasks: Mapping[Role, list[Task]], tool: str) -> MetricValue:
        edited, base, gold = (
            mean_reading(
                [
                    Part(auc_of_records(task.scores[tool], task.relevant), task.subject)
                    for task in tasks[role]
                    if 0 < task.relevant.sum() < len(task.relevant)
                ],
                evaluation.bootstrap,
            )
            for role in ("edited", "base", "gold")
        )
        return measured(edited, "AUC", DIRECTION, base=base, gold=gold, undefined=NO_OTHERS)


def auc_of_records(scores: Floats, relevant: Bools) -> Floats:
    """Of each record [n], from its scores [n, p] of the fields that are relevant [p] and the others."""
    apart = scores[:, relevant, None] - scores[:, None, ~relevant]
    area: Floats = ((apart > 0) + (apart == 0) / 2).mean(axis=(1, 2))
    return area
