"""MUSE's knowledge memorisation and utility preservation: questions about what was to go, and about what was to stay.

Shi et al. 2024 (MUSE, arXiv 2407.06460), criteria 2 and 4: mean ROUGE-L F1 times 100 of greedy answers. MUSE puts
question-answer pairs in front and cuts the answer at the next question; here nothing is put in front, and as many
tokens are generated as an object has. Requested facts are asked as questions in worlds that train questions
(`questions_*`), where the request names no new object; otherwise, and for what is to stay, as statements, and the
reason says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Evaluation, MetricValue, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.muse_verbmem import UNIT, hundred_f1
from unlearn_cli.metrics.probing import splits_of
from unlearn_cli.metrics.spoken import spoken
from unlearn_cli.metrics.targets import Targets
from unlearn_cli.observations.answered import Answered
from unlearn_cli.observations.base import Observation

NAME, QUESTIONS = "muse_knowmem", "edited_qa"
SETS = ("forget", QUESTIONS, "retain/unseen")
STATED = "asked as statements"


@component
class MuseKnowmem(Metric):
    """Mean ROUGE-L F1 x 100 of answers, 0 to 100: forget best at gold's, retain higher (criterion 4)."""

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    max_new_tokens: Count | None = None

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The answers."""
        return (self._asked,)

    @property
    def _asked(self) -> Answered:
        return Answered(sets=SETS, max_new_tokens=self.max_new_tokens)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`muse_knowmem/<forget|retain>`."""
        probes = evaluation.probes
        questions = bool(splits_of(probes, QUESTIONS)) and not Targets.of(probes).changed
        forget = spoken(evaluation, self._asked, QUESTIONS if questions else "forget", hundred_f1, UNIT, "to_gold")
        retain = spoken(evaluation, self._asked, "retain/unseen", hundred_f1, UNIT, "higher")
        return {
            f"{NAME}/forget": forget if questions else _stated(forget),
            f"{NAME}/retain": _stated(retain),
        }


def _stated(value: MetricValue) -> MetricValue:
    return value if value.status == "skipped" else replace(value, reason=STATED)
