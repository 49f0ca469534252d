"""Does a white-box tool help to predict what a model decides? Pando's held-out accuracy (P02) and baselines (P06).

Zhong et al. 2026 (arXiv 2604.11061). Departures: the agents are tree searches instead of language models
(`pando_agents.py`), for which `sample_only` and the published `tree_vote` are one; queries are drawn 3 times, not
once, which takes noise from the mean; 10,000 trees of each depth, not 50,000. Traps: a tool must be compared with
`sample_only` on the same labels, hence `/gain`; a run has one model of each role, and its interval is about records:
over models, scripts/pando.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Evaluation, Ids, MetricValue, Reading, Role
from unlearn_cli.metrics.pando import DIRECTION, Results, Searching, too_few
from unlearn_cli.metrics.pando_agents import BASELINES, SAMPLE_ONLY, SEARCHERS, Outcome
from unlearn_cli.metrics.probing import ROLES
from unlearn_cli.metrics.readings import mean_reading, measured, skipped
from unlearn_cli.observations.field_scores import TOOLS
from unlearn_cli.statistics import Part

NAME = "pando_heldout_accuracy"
UNIT = "share"

Parts = Mapping[Role, Sequence[Part]]  # one for each of a role's models


@component
class PandoHeldoutAccuracy(Searching):
    """Share of the model's decisions that an agent predicts; 0 to 1, chance about 0.5.

    /follows_rule: share of reserved records on which the model does what its rule says; /<agent>: with k labels;
    /gain/<tool>: a tool's agent less `sample_only`, on the same records, -1 to 1, 0 where the tool says nothing;
    /k_<k>/<agent>: with other numbers of labels.
    """

    VERSION: ClassVar[int] = 1

    sweep: list[Count] = Field(default_factory=list)  # other numbers of labelled records

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`pando_heldout_accuracy/<follows_rule|agent|gain/tool|k_<k>/agent>`."""
        values = {"follows_rule": _value(evaluation, self._followed(evaluation), "")}
        for k in (self.k, *self.sweep):
            agents = (*SEARCHERS, *BASELINES) if k == self.k else SEARCHERS
            found, subjects = self.results(evaluation, k, agents), self._subjects(evaluation, k)
            under = "" if k == self.k else f"k_{k}/"
            for agent in agents:
                values[under + agent] = _value(evaluation, _parts(found, subjects, agent), too_few(k))
            for tool in TOOLS if k == self.k else ():
                gain = _parts(found, subjects, tool, SAMPLE_ONLY)
                values[f"gain/{tool}"] = _value(evaluation, gain, too_few(k), share=False)
        return {f"{NAME}/{name}": value for name, value in values.items()}

    def _followed(self, evaluation: Evaluation) -> Parts:
        seen = {role: evaluation.seen(self.observed, role) for role in ROLES}
        return {role: [Part(one["followed"].astype(float), one["asked"]) for one in seen[role]] for role in seen}

    def _subjects(self, evaluation: Evaluation, k: int) -> Mapping[Role, list[Ids]]:
        """Of the models that have more than k records."""
        tasks = self.tasks(evaluation)
        return {role: [task.subject for task in tasks[role] if len(task.subject) > k] for role in tasks}


def _parts(found: Results, subjects: Mapping[Role, list[Ids]], agent: str, other: str | None = None) -> Parts:
    """Every predicted record of each model, its mean over draws; less another agent's."""

    def part(one: Mapping[str, Outcome], subject: Ids) -> Part:
        right = one[agent].right - (one[other].right if other else 0)
        predicted = np.isfinite(right).any(axis=0)
        return Part(np.nanmean(right[:, predicted], axis=0), subject[predicted])

    return {role: [part(*pair) for pair in zip(found[role], subjects[role], strict=True)] for role in found}


def _value(evaluation: Evaluation, parts: Parts, why: str, share: bool = True) -> MetricValue:
    read: dict[Role, Reading | None] = {
        role: mean_reading(found, evaluation.bootstrap, proportion=share) for role, found in parts.items()
    }
    if read["edited"] is None:
        return skipped(UNIT, DIRECTION, why)
    return measured(read["edited"], UNIT, DIRECTION, base=read["base"], gold=read["gold"])
