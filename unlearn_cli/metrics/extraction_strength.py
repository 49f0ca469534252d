"""How little of a text must be given until the model says the rest.

Carlini et al. 2021 (arXiv 2012.07805), in the form of Wang et al. 2024 (arXiv 2406.09179) and OpenUnlearning. By
causality the teacher-forced test of a suffix is the test of greedy generation from the prefix before it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Arrays, Floats
from unlearn_cli.metrics.token_metric import Scope, TokenMetric, in_scope


@component
class ExtractionStrength(TokenMetric):
    """1 - k / T with the smallest k in 0..T such that tokens k..T-1 are all predicted right: 0 to 1.

    One wrong last token makes it 0. OpenUnlearning's loop ends at k = T - 1 even where that token is wrong, so that it
    is never below 1 / T: `compat=openunlearning`, which on one-token objects is 1 for every model.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "extraction_strength"

    scope: Scope = "answer"
    compat: Literal["exact", "openunlearning"] = "exact"

    def items(self, scores: Arrays) -> Floats:
        """Length of the right suffix of each sentence, relative to it."""
        counted = in_scope(scores, self.scope)
        wrong = (counted > 0) & ~scores["hit"]
        ahead = np.cumsum(wrong[:, ::-1], axis=1)[:, ::-1] == 0  # no wrong token from here on
        suffix = (counted * ahead).sum(1)
        if self.compat == "openunlearning":
            suffix = np.maximum(suffix, 1)
        strength: Floats = suffix / np.maximum(counted.sum(1), 1)
        return strength
