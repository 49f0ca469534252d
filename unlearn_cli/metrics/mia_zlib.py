"""Membership by loss relative to how well the text compresses (Carlini et al. 2021, arXiv 2012.07805).

The text that is compressed is the text that is scored. Sentences of one grammar compress to nearly the same size, so
that here the attack is close to `mia_loss`. Sizes depend on the build of zlib.
"""

from __future__ import annotations

from typing import ClassVar

from unlearn_cli.component import Fraction, component
from unlearn_cli.evaluation import Arrays, Floats
from unlearn_cli.metrics.token_attack import TokenAttack, mean_logp
from unlearn_cli.metrics.token_metric import Scope


@component
class MiaZlib(TokenAttack):
    """s = mean log-probability / compressed bytes: keys and their meaning as `mia.MembershipInference` has them."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "mia_zlib"

    scope: Scope = "answer"
    fpr: Fraction = 0.05

    def score(self, scores: Arrays) -> Floats:
        """Mean log-probability for each byte [n]."""
        ratio: Floats = mean_logp(scores, self.scope) / scores[f"bytes_{self.scope}"]
        return ratio
