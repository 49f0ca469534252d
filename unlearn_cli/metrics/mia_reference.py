"""Membership by loss relative to a model that saw neither side (Carlini et al. 2021, arXiv 2012.07805).

The reference is gold. The base is none: it saw the requested facts, so that the ratio to it is a change, not a leak.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from unlearn_cli.component import Fraction, component
from unlearn_cli.evaluation import Evaluation, Floats, Role
from unlearn_cli.metrics.mia import MembershipInference
from unlearn_cli.metrics.token_attack import mean_logp
from unlearn_cli.metrics.token_metric import Scope


@component
class MiaReference(MembershipInference):
    """s = mean log-probability - gold's, over gold models: keys as `mia.MembershipInference` has them.

    The value of gold itself is that of each gold against the others, and absent with one gold.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "mia_reference"
    needs: ClassVar[frozenset[Role]] = frozenset({"edited", "gold"})

    scope: Scope = "answer"
    fpr: Fraction = 0.05

    def attack(self, evaluation: Evaluation, role: Role) -> Sequence[Floats]:
        """The ratio by each of the role's models."""
        gold = [mean_logp(scores, self.scope) for scores in evaluation.seen(self.observation, "gold")]
        if role != "gold":
            mine = [mean_logp(scores, self.scope) for scores in evaluation.seen(self.observation, role)]
            return [scores - np.mean(gold, axis=0) for scores in mine]
        others = [gold[:i] + gold[i + 1 :] for i in range(len(gold))]
        return [scores - np.mean(rest, axis=0) for scores, rest in zip(gold, others, strict=True) if rest]
