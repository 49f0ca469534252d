"""What does a model do with the fact when the prompt tells it? UnUnlearning (Shumailov et al. 2024, arXiv 2407.00106).

The paper publishes no metric; the protocol is this project's. Above gold in /compose: something of the fact is left.
Below gold in /direct or /compliance: the model can no longer even read the fact, which is damage. Trap: small models
trained on single sentences do not look things up in their prompt, hence the gate on the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.component import Count, Fraction, component
from unlearn_cli.evaluation import Arrays, Direction, Evaluation, Floats, MetricValue, Predictions, Role, Split
from unlearn_cli.metrics.attack import UNIT, Budget
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.candidate_accuracy import CandidateAccuracy
from unlearn_cli.metrics.probing import ROLES, splits_of, why_empty
from unlearn_cli.metrics.prompt_attack import ROWS
from unlearn_cli.metrics.readings import mean_reading, measured, skipped
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.reintroduced import CONDITIONS, Reintroduced
from unlearn_cli.statistics import Part

KEYS = ("none", "direct", "irrelevant", "compositional", "reintro", "compose", "compliance")
NO_PREMISES = "no requested fact follows from facts that could be told"


@component
class InContext(Metric):
    """Candidate accuracy on requested facts by what the prompt tells.

    /none nothing, /direct the fact itself in another sentence, /irrelevant a fact of someone else, /compositional two
    facts that imply it. /reintro = direct - none, /compose = compositional - none; /compliance is the share of prompts
    answered with a wrong object that the prompt states. All are skipped unless the base reads `min_icl` of the facts
    that it never knew (`holdout`) from its prompt.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"edited", "base"})
    name: ClassVar[str] = "in_context"

    min_icl: Fraction = 0.8  # share that the base must read from its prompt
    rows: Count | None = None  # most prompts of a split; null: 200 with a small budget, 1000 with the paper's
    budget: Budget = "small"

    @property
    def attack(self) -> Observation:
        """The prompts within the budget."""
        return Reintroduced(rows=self.rows or ROWS[self.budget])

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The prompts."""
        return (self.attack,)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`in_context/<none|direct|irrelevant|compositional|reintro|compose|compliance>`."""
        reason = self._why_not(evaluation)
        if reason:
            return {f"in_context/{key}": skipped(UNIT, "to_gold", reason) for key in KEYS}
        split = evaluation.probes.splits["forget"]
        return {f"in_context/{key}": self._value(evaluation, split, key) for key in KEYS}

    def _why_not(self, evaluation: Evaluation) -> str | None:
        """Why nothing can be concluded."""
        for name in ("forget", "holdout"):
            if not splits_of(evaluation.probes, name):
                return why_empty(evaluation.probes, name)
        read = float(self._part(evaluation, "base", evaluation.probes.splits["holdout"], "direct")[0].values.mean())
        if read >= self.min_icl:
            return None
        return f"the base reads {read:.2f} of unknown facts from its prompt, below min_icl={self.min_icl:g}"

    def _value(self, evaluation: Evaluation, split: Split, key: str) -> MetricValue:
        if key in ("compositional", "compose") and not evaluation.seen(self.attack, "edited")[0]["implied"].any():
            return skipped(UNIT, "to_gold", NO_PREMISES)
        proportion = key not in ("reintro", "compose")
        read = {
            role: mean_reading(self._part(evaluation, role, split, key), evaluation.bootstrap, proportion=proportion)
            for role in ROLES
        }
        direction: Direction = "to_gold"
        return measured(read["edited"], UNIT, direction, base=read["base"], gold=read["gold"], undefined=NO_PREMISES)

    def _part(self, evaluation: Evaluation, role: Role, split: Split, key: str) -> list[Part]:
        """Every item's value, averaged over the role's models."""
        found = evaluation.seen(self.attack, role)
        if not found:
            return []
        asked = np.isin(split.rows, found[0]["rows"])
        if key in ("compositional", "compose"):
            place = np.searchsorted(found[0]["rows"], split.rows[asked])
            asked[asked] = found[0]["implied"][place]
        if not asked.any():
            return []
        values = np.mean([_values(arrays, split, asked, key) for arrays in found], axis=0)
        return [Part(values, evaluation.probes.cluster[split.rows[asked]])]


def _values(arrays: Arrays, split: Split, asked: NDArray[np.bool_], key: str) -> Floats:
    """The value of each asked item of a split in one model."""
    place, answer = np.searchsorted(arrays["rows"], split.rows[asked]), split.answer[asked]

    def under(condition: str, answer: NDArray[np.int64] = answer) -> Floats:
        which = CONDITIONS.index(condition)
        logps, greedy = arrays["candidate_logps"][which], arrays["greedy"][which]
        never = np.full(len(greedy), -np.inf, dtype=np.float32)
        return CandidateAccuracy().items(Predictions(logps, greedy, never), place, answer)

    if key == "compliance":
        return under("false", arrays["false"][place])
    if key in ("reintro", "compose"):
        return under("direct" if key == "reintro" else "compositional") - under("none")
    return under(key)
