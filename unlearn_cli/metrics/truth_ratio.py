"""TOFU's truth ratio: how probable wrong answers are beside the right one, told in other words.

Maini et al. 2024 (arXiv 2401.06121), section 2.2.2. TR = W / P(right), W an average over wrong answers of the
length-normalised probability: geometric (exp of the mean log-probability; OpenUnlearning, and TOFU's forget quality) or
arithmetic (the paper's formula). The right answer is told in held-out phrasings on the forget set, as in training on
the others. Five wrong answers, as published. In log space, so that a uniform model has TR = 1 exactly.
Trap: `closeness` is 1 at TR = 1, which a uniform model has, too: a model that knows nothing at all looks ideal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Direction, Evaluation, MetricValue, Role, Split
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import ROLES
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.targets import FACTS
from unlearn_cli.metrics.tofu import (
    SETS,
    Aggregate,
    Average,
    closeness_to_one,
    facts_of,
    knowledge,
    paraphrases,
    reworded,
    splits_in,
    truth_ratio_parts,
    truthfulness,
    why_no_set,
)
from unlearn_cli.metrics.valuing import from_parts
from unlearn_cli.observations.base import Observation

NAME, UNIT = "truth_ratio", "ratio"


@component
class TruthRatio(Metric):
    """Means over facts, each 0 to 1.

    closeness/forget = min(TR, 1/TR); knowledge/forget = 1 / (1 + TR): 1 knows the fact, 1/2 prefers nothing, below 1/2
    avoids it; both best at gold's. utility on the other sets = max(0, 1 - TR), ideal 1.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    wrong: Count = 5
    average: Average = "geometric"

    @property
    def observations(self) -> tuple[Observation, ...]:
        """How many objects each relation has, how long they are, and which phrasings are held out."""
        return (FACTS,)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`truth_ratio/<closeness|knowledge>/forget`, `truth_ratio/utility/<retain|near|far>`."""
        forget = {"closeness": closeness_to_one, "knowledge": knowledge}
        values = {f"{NAME}/{kind}/forget": self._value(evaluation, "forget", how) for kind, how in forget.items()}
        return values | {f"{NAME}/utility/{name}": self._value(evaluation, name, truthfulness) for name in SETS}

    def _value(self, evaluation: Evaluation, name: str, how: Aggregate) -> MetricValue:
        direction: Direction = "to_gold" if name == "forget" else "higher"
        if why := why_no_set(evaluation, name):
            return skipped(UNIT, direction, why)
        splits: list[Split] = [paraphrases(evaluation)] if name == "forget" else splits_in(evaluation, name)
        parts = {role: truth_ratio_parts(evaluation, role, splits, self.wrong, self.average, how) for role in ROLES}
        asked = splits[0] is evaluation.probes.splits["forget"]
        plain = name == "forget" and asked and not reworded(facts_of(evaluation), splits[0])
        reason = "paraphrase: none; the right answer is told as the method was shown it" if plain else None
        return from_parts(parts, evaluation.bootstrap, UNIT, direction, reason=reason)
