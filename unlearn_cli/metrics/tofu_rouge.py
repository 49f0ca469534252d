"""TOFU's ROUGE: how much of the answer is in what the model says.

Maini et al. 2024 (arXiv 2401.06121), section 2.2.1: ROUGE-L recall (Lin 2004) of greedy answers. TOFU generates up to
200 tokens and stems words; a world's words are tokens, with nothing to stem, and as many are generated as an object
has, since behind it a model trained on objects only has learned nothing. With objects of one token this is exact match.
Trap: recall rewards saying more; with more tokens asked for it only wants the object to occur.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Direction, Evaluation, Floats, MetricValue, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.overlap import pair, rouge_l
from unlearn_cli.metrics.probing import ROLES
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.spoken import parts_of
from unlearn_cli.metrics.tofu import SETS, splits_in
from unlearn_cli.metrics.valuing import from_parts
from unlearn_cli.observations.answered import Answered
from unlearn_cli.observations.base import Observation
from unlearn_cli.statistics import Part

NAME, UNIT = "tofu_rouge", "share"
ALL = ("forget", *(part for parts in SETS.values() for part in parts))


@component
class TofuRouge(Metric):
    """ROUGE-L recall of greedy answers, 0 to 1. Forget: best at gold's; retain, near and far: higher."""

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    max_new_tokens: Count | None = None  # null: as many as an object has

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The answers."""
        return (answers(self.max_new_tokens),)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`tofu_rouge/<forget|retain|near|far>`."""
        return {f"{NAME}/{name}": self._value(evaluation, name) for name in ("forget", *SETS)}

    def _value(self, evaluation: Evaluation, name: str) -> MetricValue:
        direction: Direction = "to_gold" if name == "forget" else "higher"
        if not splits_in(evaluation, name):
            return skipped(UNIT, direction, f"there is no probe in {' or '.join(SETS.get(name, (name,)))}")
        if not evaluation.seen(answers(self.max_new_tokens), "edited"):
            return skipped(UNIT, direction, "no answer was generated")
        parts = {role: rouge_parts(evaluation, role, name, self.max_new_tokens) for role in ROLES}
        return from_parts(parts, evaluation.bootstrap, UNIT, direction, proportion=True)


def answers(max_new_tokens: int | None) -> Answered:
    """The greedy answers to the forget set and the three others."""
    return Answered(sets=ALL, max_new_tokens=max_new_tokens)


def rouge_parts(evaluation: Evaluation, role: Role, name: str, max_new_tokens: int | None) -> list[Part]:
    """The recall of each answer of a set, one part for each of its splits."""
    return parts_of(evaluation, answers(max_new_tokens), role, SETS.get(name, (name,)), recall)


def recall(arrays: Arrays) -> Floats:
    """ROUGE-L recall of each answer."""
    return rouge_l(*pair(arrays), "recall")
