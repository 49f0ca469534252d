"""Membership after unlearning by likelihood ratio: U-LiRA (Hayes et al. 2024, arXiv 2403.01218).

LiRA's test for each fact, but "in" is taught *and then unlearned*: each shadow went through the run's own method, asked
to unlearn the requested facts that the shadow was taught, and "out" are the shadows that never saw the fact and
unlearned the others. s = log N(phi; in) - log N(phi; out), phi = log(p / (1 - p)) of the object.

Non-members are the same facts in shadows without them, so that nothing but the fact's history differs. A shadow is
scored by Gaussians fitted to all others but its twin, the shadow with the other half, which leaves both sides equally
many; hence 6 shadows at least. The paper trains fresh targets; here the targets are the edited model, and for the
`/shadows` keys every shadow in turn. Shadows know half of the subjects, so read the edited model's value beside gold's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from unlearn_cli.component import Fraction, component
from unlearn_cli.evaluation import Direction, Evaluation, Floats, Ids, MetricValue, Reading, Role
from unlearn_cli.metrics import roc
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.mia import RESOLUTION
from unlearn_cli.metrics.probing import ROLES, splits_of, why_empty
from unlearn_cli.metrics.readings import NOT_FINITE, mean_reading, measured, skipped, with_items
from unlearn_cli.metrics.shadowed import Spread, inside, log_ratio, logits, mean_where, scores_of
from unlearn_cli.statistics import Part

DIRECTIONS: Mapping[str, Direction] = {"forget": "to_gold", "retain": "descriptive"}
WORST = 0.1  # share of the facts that are recognised best


@dataclass(frozen=True, eq=False)
class _Game:
    """Scores of n probes."""

    rows: Ids
    cluster: Ids
    fact: Ids
    models: Mapping[Role, Floats]  # of each role's models [M, n]
    shadows: Floats  # [K, n]
    taught: np.ndarray  # [K, n]

    def against_out(self, members: Floats) -> roc.Sides:
        """One model's scores and, of the same probes, those of the shadows without the fact."""
        return self._sides(members, self.cluster)

    def in_against_out(self) -> roc.Sides:
        """The shadows' scores alone."""
        return self._sides(self.shadows[self.taught], self._every(self.taught))

    def hits(self, members: Floats, chosen: np.ndarray) -> Floats:
        """Balanced accuracy at s = 0 for each probe [n]: of chosen `members` [M, n], and shadows without the fact."""
        accepted, rejected = (
            mean_where(scores.astype(np.float64), among)
            for scores, among in ((members > 0, chosen), (self.shadows <= 0, ~self.taught))
        )
        balanced: Floats = (accepted + rejected) / 2
        return balanced

    def _sides(self, members: Floats, cluster: Ids) -> roc.Sides:
        return roc.Sides(members, self.shadows[~self.taught], cluster, self._every(~self.taught))

    def _every(self, chosen: np.ndarray) -> Ids:
        clusters: Ids = np.broadcast_to(self.cluster, chosen.shape)[chosen]
        return clusters


@component
class ULira(Metric):
    """`/forget`: area under the ROC curve of the edited model's requested facts, 0 to 1; 0.5: as if never taught.

    `/tpr` at a false-positive rate of at most `fpr`, and `/accuracy`, the balanced accuracy of s > 0, one value for
    each probe; `/retain`: the area for facts that must not change, whose "in" was taught and not unlearned.
    `/shadows`, `/shadows_accuracy` and `/shadows_worst_decile` (the tenth of the facts that is recognised best): the
    same with every shadow as the target, about the method rather than about the one edited model.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "u_lira"
    needs: ClassVar[frozenset[Role]] = frozenset({"edited", "unlearned_shadow"})

    k: Annotated[int, Field(ge=6, multiple_of=2)] = 16
    var: Spread = "global"
    fpr: Fraction = 0.05

    @property
    def shadows(self) -> int:
        """K."""
        return self.k

    @property
    def unlearned_shadows(self) -> int:
        """K."""
        return self.k

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`u_lira/<forget|tpr|accuracy|retain|shadows|shadows_accuracy|shadows_worst_decile>`."""
        values = {}
        for name, direction in DIRECTIONS.items():
            game = self.game(evaluation, name)
            if isinstance(game, str):
                values[name] = skipped("auc", direction, game)
                continue
            values |= self._areas(evaluation, game, name, direction)
            if name == "forget":
                values |= {"accuracy": _accuracy(evaluation, game)} | _of_shadows(evaluation, game)
        return {f"{self.name}/{key}": value for key, value in values.items()}

    def game(self, evaluation: Evaluation, name: str) -> _Game | str:
        """Everyone's scores on a split, or why there are none."""
        splits = splits_of(evaluation.probes, name)
        if not splits:
            return why_empty(evaluation.probes, name)
        rows = np.concatenate([split.rows for split in splits])
        taught = inside(evaluation, rows)[: self.k]
        differ = taught.any(0) & ~taught.all(0)
        if not differ.any():
            return "every shadow was taught every such fact, or none was: facts about objects are in all of them"
        rows, taught = rows[differ], taught[:, differ]
        phi = scores_of(evaluation, "unlearned_shadow", rows, logits)[: self.k]
        models = {
            role: log_ratio(scores_of(evaluation, role, rows, logits), phi, taught, self.var)
            for role in ROLES
            if evaluation.predictions.get(role)
        }
        shadows = self._left_out(phi, taught)
        if not all(np.isfinite(scores).all() for scores in [shadows, models["edited"]]):
            return NOT_FINITE
        probes = evaluation.probes
        return _Game(rows, probes.cluster[rows], probes.fact[rows], models, shadows, taught)

    def _left_out(self, phi: Floats, taught: np.ndarray) -> Floats:
        """Each shadow's own scores [K, n], fitted without it and its twin."""
        scores = np.empty_like(phi)
        for first in range(0, self.k, 2):
            pair = [first, first + 1]
            others = np.delete(np.arange(self.k), pair)
            scores[pair] = log_ratio(phi[pair], phi[others], taught[others], self.var)
        return scores

    def _areas(self, evaluation: Evaluation, game: _Game, name: str, direction: Direction) -> dict[str, MetricValue]:
        reads: dict[str, roc.Read] = {name: roc.auc}
        values = {}
        if name == "forget":
            nonmembers = len(np.unique(game.fact)) * self.k // 2
            if self.fpr * nonmembers >= RESOLUTION - 1e-9:
                reads["tpr"] = roc.tpr_at(self.fpr)
            else:
                values["tpr"] = skipped("share", direction, f"fpr={self.fpr:g} is too low for {nonmembers} non-members")
        found = {
            role: _readings([game.against_out(one) for one in scores], reads, evaluation)
            for role, scores in game.models.items()
        }
        for key in reads:
            read = {role: readings[key] for role, readings in found.items()}
            unit = "auc" if key == name else "share"
            values[key] = measured(read["edited"], unit, direction, base=read.get("base"), gold=read.get("gold"))
        return values


def _readings(sides: Sequence[roc.Sides], reads: Mapping[str, roc.Read], evaluation: Evaluation) -> dict[str, Reading]:
    statistics = roc.statistics(sides, reads, evaluation.bootstrap)
    return {key: statistic.reading(evaluation.bootstrap) for key, statistic in statistics.items()}


def _accuracy(evaluation: Evaluation, game: _Game) -> MetricValue:
    parts = {
        role: [Part(game.hits(scores, np.ones(scores.shape, dtype=bool)), game.cluster)]
        for role, scores in game.models.items()
    }
    read = {role: mean_reading(found, evaluation.bootstrap) for role, found in parts.items()}
    value = measured(read["edited"], "share", "to_gold", base=read.get("base"), gold=read.get("gold"))
    return with_items(value, parts, game.rows)


def _of_shadows(evaluation: Evaluation, game: _Game) -> dict[str, MetricValue]:
    """The method's values: "in" against "out" shadows."""
    area = _readings([game.in_against_out()], {"auc": roc.auc}, evaluation)["auc"]
    hits = game.hits(game.shadows, game.taught)
    part = {"edited": [Part(hits, game.cluster)]}
    mean = measured(mean_reading(part["edited"], evaluation.bootstrap), "share", "descriptive")
    place = np.unique(game.fact, return_inverse=True)[1]
    facts = np.sort(np.bincount(place, hits) / np.bincount(place))
    worst = facts[-int(np.ceil(WORST * len(facts))) :]
    return {
        "shadows": measured(area, "auc", "descriptive"),
        "shadows_accuracy": with_items(mean, part, game.rows),  # type: ignore[arg-type]
        "shadows_worst_decile": measured(Reading(float(worst.mean()), len(worst)), "share", "descriptive"),
    }
