"""Does the model still read ordinary text? Perplexity on prose that has nothing to do with the request.

exp of the mean negative log-likelihood of a token, the usual measure of general damage: a method that forgets by
breaking the model is found out here, where the neighbouring facts, which it was trained to keep, look well. Trap: it
depends on the tokenizer and the window, so models are compared on one text only, never with published numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, MetricValue, Reading, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.readings import measured
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.general_text import GeneralText

LARGEST = 700.0  # nats whose exponential a float holds


@component
class TextPerplexity(Metric):
    """/perplexity of a text file, base and gold beside it; /ratio of the edited model's to the base's, 1 for no change.

    The mean runs over all tokens but the first. No interval: neighbouring tokens are no independent items.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    path: str | None = None  # UTF-8 text file; null: skipped
    window: int = Field(default=1024, ge=2)  # tokens read at a time, at most the model's context

    @field_validator("path")
    @classmethod
    def _readable(cls, path: str | None) -> str | None:
        if path is not None:
            try:
                Path(path).expanduser().read_text(encoding="utf-8")
            except OSError as error:
                raise ValueError(f"cannot be read: {error.strerror}") from None
            except UnicodeDecodeError as error:
                raise ValueError(f"is no UTF-8 text: byte {error.start}") from None
        return path

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The text's tokens, scored."""
        sha = None if self.path is None else hashlib.sha256(Path(self.path).expanduser().read_bytes()).hexdigest()
        return (GeneralText(path=self.path, sha256=sha, window=self.window),)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`text_perplexity/perplexity`, `/ratio`."""
        edited, base, gold = (self._reading(evaluation, role) for role in ("edited", "base", "gold"))
        return {
            "text_perplexity/perplexity": measured(edited, "perplexity", "lower", base=base, gold=gold),
            "text_perplexity/ratio": measured(
                None if edited is None or base is None else Reading(edited.value / base.value, edited.n),
                "ratio",
                "lower",
                undefined="there is no base, or its probabilities are not finite",
            ),
        }

    def _reading(self, evaluation: Evaluation, role: Role) -> Reading | None:
        """The geometric mean over models of one role; None for none, or one too large for a float."""
        (observation,) = self.observations
        scores = [arrays["nll"] for arrays in evaluation.seen(observation, role)]
        if not scores:
            return None
        mean = sum(float(nll.mean(dtype="float64")) for nll in scores) / len(scores)
        return Reading(math.exp(mean), len(scores[0])) if mean < LARGEST else None
