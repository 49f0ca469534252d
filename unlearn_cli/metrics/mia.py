"""Membership inference: can an attacker tell texts that were trained on from texts that were not?

Every attack scores a sentence, higher for what looks more like a member (some publications have it the other way
round). Three questions (arXiv 2112.03570 for the rates at low false-positive rates):

  forget vs holdout    residual membership: after unlearning as before training on it, so best where gold is
  retain vs holdout    what the rest of the training data gives away; the base's number is beside it
  the same reversed    facts that look less like members than unseen ones were deleted, and that shows (Streisand)

Members and non-members are sentences of the same relations in the same templates, or a difference between the two
would be found instead of membership. Gold never saw either: where its area is not one half, the two can be told apart
without any leak, and the value's reason says so.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from unlearn_cli.evaluation import Arrays, Direction, Evaluation, Floats, Ids, MetricValue, Reading, Role
from unlearn_cli.metrics import roc
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import ROLES, splits_of, why_empty
from unlearn_cli.metrics.readings import measured, skipped
from unlearn_cli.metrics.roc import Read, Sides
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.token_scores import TokenScores

NONMEMBERS = "holdout"
RESOLUTION = 10  # non-members that must stand above a threshold for its false-positive rate to be known


class MembershipInference(Metric):
    """`/forget`, `/retain`: area under the ROC curve, 0 to 1; 0.5 is chance, 1 perfect, below 0.5 reversed.

    Of forget vs holdout also `/distance`, |area - 0.5|; `/advantage`, the largest TPR - FPR (the best balanced accuracy
    is half of 1 + it); `/tpr` at a false-positive rate of at most `fpr`, and `/tpr_reversed`, the same with the scores'
    sign turned. A rate needs 10 / fpr non-member facts, or it is skipped. Intervals resample subjects of both sides.
    """

    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})
    name: ClassVar[str]

    fpr: float

    @property
    def observation(self) -> Observation:
        """What has `rows`, ascending, and `relation` of every sentence, and what `attack` reads."""
        return TokenScores()

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The sentences' scores."""
        return (self.observation,)

    def attackable(self, evaluation: Evaluation) -> Ids:
        """Probes that the attack can be tried on: all that are observed, less those that it learns from."""
        rows: Ids = evaluation.seen(self.observation, "edited")[0]["rows"]
        return rows

    @abstractmethod
    def attack(self, evaluation: Evaluation, role: Role) -> Sequence[Floats]:
        """Score each sentence [n] of the observation, for each of the role's models."""

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`<name>/<forget|retain|distance|advantage|tpr|tpr_reversed>`."""
        rates = {"tpr": roc.tpr_at(self.fpr), "tpr_reversed": roc.tpr_reversed_at(self.fpr)}
        of_forget = {"forget": roc.auc, "distance": _distance, "advantage": roc.advantage}
        coarse = self._too_few(evaluation)
        values = self._ask(evaluation, "forget", of_forget if coarse else of_forget | rates)
        values |= self._ask(evaluation, "retain", {"retain": roc.auc})
        if coarse:
            values |= {key: skipped("share", "to_gold", coarse) for key in rates}
        return {f"{self.name}/{key}": value for key, value in values.items()}

    def _too_few(self, evaluation: Evaluation) -> str | None:
        """Why rates at `fpr` are not known."""
        facts = len(np.unique(evaluation.probes.fact[_rows(evaluation, NONMEMBERS)]))
        if self.fpr * facts >= RESOLUTION - 1e-9:
            return None
        needed = f"{np.ceil(RESOLUTION / self.fpr - 1e-9):.0f}" if self.fpr else "infinitely many"
        return f"fpr={self.fpr:g} needs {needed} holdout facts; {facts} are asked"

    def _ask(self, evaluation: Evaluation, members: str, reads: Mapping[str, Read]) -> dict[str, MetricValue]:
        """Every statistic of `members` against the non-members."""
        direction: Direction = "to_gold" if members == "forget" else "descriptive"
        for side in (members, NONMEMBERS):
            if not len(_rows(evaluation, side)):
                return {key: skipped("share", direction, why_empty(evaluation.probes, side)) for key in reads}
        sides = self.sides(evaluation, members)
        if not sides:
            reason = f"{members} and {NONMEMBERS} share no relation and template"
            return {key: skipped("share", direction, reason) for key in reads}
        found: dict[Role, dict[str, Reading]] = {}
        for role, models in sides.items():
            statistics = roc.statistics(models, reads, evaluation.bootstrap) if models else {}
            found[role] = {key: statistic.reading(evaluation.bootstrap) for key, statistic in statistics.items()}
        return {
            key: measured(
                found["edited"].get(key),
                "auc" if read is roc.auc else "share",
                direction,
                base=found["base"].get(key),
                gold=found["gold"].get(key),
                reason=_shift(found["gold"].get("forget")) if key == "forget" else None,
            )
            for key, read in reads.items()
        }

    def sides(self, evaluation: Evaluation, members: str = "forget") -> dict[Role, list[Sides]]:
        """Both sides' scores by each model of each role; empty where nothing is comparable."""
        seen = evaluation.seen(self.observation, "edited")
        found = _comparable(evaluation, seen[0], self.attackable(evaluation), members) if seen else None
        if found is None:
            return {}
        rows, (mine, theirs), cluster = seen[0]["rows"], found, evaluation.probes.cluster
        place, other = np.searchsorted(rows, mine), np.searchsorted(rows, theirs)
        return {
            role: [
                Sides(scores[place], scores[other], cluster[mine], cluster[theirs])
                for scores in self.attack(evaluation, role)
            ]
            for role in ROLES
        }


def _rows(evaluation: Evaluation, side: str) -> Ids:
    """Probes of one side."""
    splits = splits_of(evaluation.probes, side)
    return np.concatenate([split.rows for split in splits]) if splits else np.empty(0, dtype=np.int64)


def _comparable(evaluation: Evaluation, arrays: Arrays, kept: Ids, members: str) -> tuple[Ids, Ids] | None:
    """Rows of both sides that are in `kept`, of the relations and in the templates that both have."""
    sides = [np.intersect1d(_rows(evaluation, side), kept) for side in (members, NONMEMBERS)]
    for values in (arrays["relation"], evaluation.probes.template[arrays["rows"]]):
        of = [values[np.searchsorted(arrays["rows"], rows)] for rows in sides]
        common = np.intersect1d(of[0], of[1])
        sides = [rows[np.isin(values, common)] for rows, values in zip(sides, of, strict=True)]
    return (sides[0], sides[1]) if all(map(len, sides)) else None


def _distance(curve: roc.Curve) -> Floats:
    return np.abs(roc.auc(curve) - 0.5)


def _shift(gold: Reading | None) -> str | None:
    """What a reader must know where gold, which saw neither side, tells them apart."""
    if gold is None or gold.ci is None or gold.ci[0] <= 0.5 <= gold.ci[1]:
        return None
    return f"gold, which saw neither, tells forget from holdout: compare with its {gold.value:.2f}, not with 0.5"
