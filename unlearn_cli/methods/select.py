"""Which of the requested facts a loss method trains on; all of them are asked afterwards.

upcore  all but the outliers among their hidden states: UPCORE (Patil et al. 2025, arXiv 2502.15082), on the grounds
        that what an edit does to other facts grows with the variance of the forget set's states
random  as many, drawn: its control

A fact's state is that of the last token of its prompt behind block `layer`, here the mean over the phrasings in which
edits are written; outliers are what an isolation forest (Liu et al. 2008) finds easiest to isolate. Of n facts
n - ceil(contamination (n - 1)) stay: scikit-learn's rule, whose threshold is an interpolated percentile; among equal
scores the facts that come last go. Published: contamination 0.1, the last or the penultimate layer, with gradient
ascent, refusals and NPO as losses.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from unlearn_cli.component import component


@component
class Select:
    """A choice of requested facts, made once before the first step."""

    kind: Literal["none", "upcore", "random"] = "none"
    contamination: Annotated[float, Field(ge=0, le=0.5)] = 0.1  # share that is left out
    layer: int = -1  # upcore: block, from 0, or from the end as -1
