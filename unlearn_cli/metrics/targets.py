"""What an edit asks: each requested fact's old and new object, and whose neighbours a probe's fact is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unlearn_cli.evaluation import Evaluation, Floats, Ids, Predictions, ProbeSet, Split
from unlearn_cli.metrics.probing import Score
from unlearn_cli.observations.probe_facts import ProbeFacts
from unlearn_cli.worlds.facts import REFUSAL

NO_TARGET = "the request names no new object"
NO_OLD = "of a requested fact nobody knows the old object"
FACTS = ProbeFacts()


@dataclass(frozen=True, eq=False)
class Targets:
    """The requested facts that are asked."""

    old: dict[int, int]  # fact -> object before
    new: dict[int, int]  # fact -> object after, REFUSAL included

    @classmethod
    def of(cls, probes: ProbeSet) -> Targets:
        """Read off `forget`, which is scored on the old objects, and `edited`, on the new ones."""
        return cls(*(_answers(probes, probes.splits[name]) for name in ("forget", "edited")))

    @property
    def changed(self) -> bool:
        """Whether any fact gets another object."""
        return self.old != self.new

    @property
    def why_not(self) -> str | None:
        """Why new and old objects cannot be compared, if they cannot."""
        if not self.changed:
            return NO_TARGET
        return NO_OLD if REFUSAL in self.old.values() else None

    def score(self, probes: ProbeSet, kind: Score2) -> Score:
        """Compare new with old object on probes of requested facts."""

        def compare(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
            facts = probes.fact[rows].tolist()
            old, new = (np.array([of[fact] for fact in facts], dtype=np.int64) for of in (self.old, self.new))
            return kind(*(fair_logps(probes, predictions, rows, objects) for objects in (new, old)))

        return compare


Score2 = Callable[[Floats, Floats], Floats]  # log-probabilities of the wanted and of the other object -> score


def prefers(wanted: Floats, other: Floats) -> Floats:
    """1 where the wanted object is strictly more probable; a tie is no success. NaN stays NaN."""
    return np.where(np.isnan(wanted + other), np.nan, wanted > other)


def margin(wanted: Floats, other: Floats) -> Floats:
    """P(wanted) - P(other)."""
    return np.exp(wanted) - np.exp(other)


def logps(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
    """Log-probabilities of answers [n] in float64."""
    return predictions.answer_logps(rows, answer).astype(np.float64)


def fair_logps(probes: ProbeSet, predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
    """The same, for each token where answers differ in their number of tokens, as ROME has it."""
    return probes.per_token(logps(predictions, rows, answer), rows, answer)


def rivals(evaluation: Evaluation, split: Split) -> list[list[int]] | None:
    """What the objects of a split's facts were replaced with in the request, for each row.

    Those are the targets of the requested facts of the same relation and old object. None where the relations are not
    observed.
    """
    probes, observed = evaluation.probes, evaluation.seen(FACTS, "edited")
    if not observed:
        return None
    keys = observed[0]["relation"]
    forget, edited = probes.splits["forget"], probes.splits["edited"]
    targets = dict(zip(edited.rows.tolist(), edited.answer.tolist(), strict=True))
    found: dict[tuple[int, int], set[int]] = {}
    for row, old in zip(forget.rows.tolist(), forget.answer.tolist(), strict=True):
        found.setdefault((int(keys[row]), old), set()).add(targets[row])
    rows, answers = split.rows.tolist(), split.answer.tolist()
    return [sorted(found.get((int(keys[row]), old), ())) for row, old in zip(rows, answers, strict=True)]


def _answers(probes: ProbeSet, split: Split) -> dict[int, int]:
    return dict(zip(probes.fact[split.rows].tolist(), split.answer.tolist(), strict=True))
