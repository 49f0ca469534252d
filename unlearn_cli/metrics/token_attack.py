"""Membership attacks that read the tokens' scores of one model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from unlearn_cli.evaluation import Arrays, Evaluation, Floats, Role
from unlearn_cli.metrics.mia import MembershipInference
from unlearn_cli.metrics.token_metric import Scope, in_scope


class TokenAttack(MembershipInference):
    """Subclasses give `score`; `scope` says whether an answer given its prompt or the whole sentence is scored."""

    scope: Scope

    @abstractmethod
    def score(self, scores: Arrays) -> Floats:
        """Score each sentence [n], higher for what looks more like a member."""

    def attack(self, evaluation: Evaluation, role: Role) -> Sequence[Floats]:
        """The score by each of the role's models."""
        return [self.score(scores) for scores in evaluation.seen(self.observation, role)]


def mean_logp(scores: Arrays, scope: Scope) -> Floats:
    """Mean log-probability of the tokens that count [n], nats."""
    counted = in_scope(scores, scope)
    mean: Floats = (counted * scores["logp"]).sum(1) / np.maximum(counted.sum(1), 1)
    return mean


def lowest(values: Floats, counted: Floats, share: float) -> Floats:
    """Mean of the lowest `share` of each row's values that count [n], at least one of them."""
    ordered = np.sort(np.where(counted > 0, values, np.inf), axis=1)
    kept = np.maximum(1, np.floor(share * counted.sum(1) + 1e-9)).astype(np.int64)  # 0.57 * 100 is 56.99...
    taken = np.arange(values.shape[1]) < kept[:, None]
    total: Floats = np.where(taken, ordered, 0.0).sum(1) / kept
    return total
