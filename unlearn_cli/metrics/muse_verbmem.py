"""MUSE's verbatim memorisation: does the model go on as the forgotten text does?

Shi et al. 2024 (MUSE, arXiv 2407.06460), criterion 1: mean ROUGE-L F1 times 100 of the greedy continuation and the true
one, here on the sentences of the requested facts. MUSE gives a prefix of a passage and reads 128 tokens, without
stemming. Sentences of a world are short and filled with random words, and with `train.loss_on=answer` only objects are
learned at all: by default the prefix is all before the object, and as many tokens are read as it has. For models
trained with `loss_on=all`, set `prefix` and `max_new_tokens`. Trap: 0 is not the ideal, gold's value is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Evaluation, Floats, MetricValue, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.overlap import pair, rouge_l
from unlearn_cli.metrics.spoken import spoken
from unlearn_cli.observations.answered import Answered
from unlearn_cli.observations.base import Observation

UNIT = "ROUGE x 100"


@component
class MuseVerbmem(Metric):
    """Mean ROUGE-L F1 x 100 of continuations of requested facts, 0 to 100, 100 verbatim; best at gold's."""

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    prefix: Literal["prompt"] | Count = "prompt"
    max_new_tokens: Count | None = None

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The continuations."""
        return (self._asked,)

    @property
    def _asked(self) -> Answered:
        return Answered(sets=("forget",), prefix=self.prefix, max_new_tokens=self.max_new_tokens)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`muse_verbmem/forget`."""
        return {"muse_verbmem/forget": spoken(evaluation, self._asked, "forget", hundred_f1, UNIT, "to_gold")}


def hundred_f1(arrays: Arrays) -> Floats:
    """ROUGE-L F1 x 100 of each answer."""
    return 100 * rouge_l(*pair(arrays), "f1")
