"""Does it come back in other words? Rephrased prompts, prompts behind unrelated sentences or words, and typos.

Patil et al. 2024 (arXiv 2309.17410); the chance curve 1 - (1 - 1/O)^Q of the best of Q guesses is this project's. Trap:
the best of several tries rises for any model, so only its excess over gold, or over chance, says something.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Evaluation, MetricValue
from unlearn_cli.metrics.attack import UNIT, Budget
from unlearn_cli.metrics.probing import splits_of
from unlearn_cli.metrics.prompt_attack import ROWS, PromptAttack
from unlearn_cli.metrics.readings import mean_reading, measured
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.rephrased import Rephrased, Rephrasing
from unlearn_cli.statistics import Part


@component
class Paraphrase(PromptAttack):
    """Accuracy on requested facts over the variants of a prompt: their mean, and whether any of them is answered.

    /any is the share of prompts with at least one right variant, /any_chance what guessing would give: gold is near it.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "paraphrase"

    kind: Rephrasing = "heldout"
    variants: Count = 4
    sentences: Count = 1  # prefix: sentences before the prompt
    words: Count = 1  # typo: filler words that are exchanged; wrapper: filler words in front
    rows: Count | None = None  # most prompts of a split; null: 200 with a small budget, 1000 with the paper's
    budget: Budget = "small"

    @property
    def label(self) -> str:
        """`paraphrase_<kind>`."""
        return f"{self.name}_{self.kind}"

    @property
    def attack(self) -> Observation:
        """The rephrasings within the budget."""
        how = {name: getattr(self, name) for name in ("kind", "variants", "sentences", "words")}
        return Rephrased(**how, rows=self.rows or ROWS[self.budget])

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """The attack's values over the mean of the variants; `/any`, `/any_excess`, `/any_chance` over the best."""
        values = dict(super().compute(evaluation))
        if f"{self.label}/forget" not in values:
            return values
        if values[f"{self.label}/forget"].status != "ok":
            return values
        fields = {name: getattr(self, name) for name in ("kind", "variants", "sentences", "words", "rows", "budget")}
        best = _Best(**fields).compute(evaluation)
        values[f"{self.label}/any"] = best[f"{self.label}/forget"]
        values[f"{self.label}/any_excess"] = best[f"{self.label}/excess"]
        values[f"{self.label}/any_chance"] = self._chance(evaluation)
        return values

    def _chance(self, evaluation: Evaluation) -> MetricValue:
        """Share of prompts that as many independent guesses would answer."""
        arrays, split = evaluation.seen(self.attack, "edited")[0], splits_of(evaluation.probes, "forget")[0]
        rows = split.rows[np.isin(split.rows, arrays["rows"])]
        tries = arrays["candidate_logps"][:, np.searchsorted(arrays["rows"], rows)]
        objects = (tries[0] > -np.inf).sum(-1)
        guessed = 1 - (1 - 1 / objects) ** len(tries)
        reading = mean_reading([Part(guessed, evaluation.probes.cluster[rows])], evaluation.bootstrap)
        return measured(reading, UNIT, "descriptive", base=reading, gold=reading, reason=f"{len(tries)} variants")


class _Best(Paraphrase):
    """The same, any of the variants counting."""

    over_tries: ClassVar[Literal["mean", "any"]] = "any"

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        return PromptAttack.compute(self, evaluation)
