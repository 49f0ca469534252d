"""OpenUnlearning's aggregate of finished runs, from the metrics that they measured (`leaderboard.py`).

Departures: the paraphrase's probability is that of the old object in held-out phrasings, not normalised by length (the
same for objects of one token); fluency is the base's perplexity over the model's on what must not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unlearn_cli.analysis import leaderboard
from unlearn_cli.analysis.runs import Run

MEMORIZATION = (
    "extraction_strength/forget",
    "exact_memorization/forget",
    "answer_probability/edited_para",
    "truth_ratio/knowledge/forget",
)
PRIVACY = "privleak_family/score"
UTILITY = ("utility_delta/model_utility", "utility_delta/perplexity")


@dataclass(frozen=True)
class Score:
    """One model's parts and their harmonic mean."""

    memorization: float
    privacy: float | None  # None without a gold model
    utility: float

    @property
    def aggregate(self) -> float:
        """The whole."""
        return leaderboard.aggregate(self.memorization, self.privacy, self.utility)


def score(run: Run, role: str = "value") -> Score | None:
    """Of the edited model, or of `base` or `gold`; None where a part was not measured."""
    known = _all(run, MEMORIZATION, role)
    kept = _all(run, UTILITY, role)
    if known is None or kept is None or run.result.request.get("op") != "forget":
        return None
    return Score(leaderboard.memorization(*known), run.value(PRIVACY, role), leaderboard.utility(kept))


def _all(run: Run, keys: Sequence[str], role: str) -> list[float] | None:
    values = [run.value(key, role) for key in keys]
    known = [value for value in values if value is not None]
    return known if len(known) == len(keys) else None
