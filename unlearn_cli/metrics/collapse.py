"""Whether the language itself broke: perplexity of sentences that the edit was not about.

Yang et al. 2024 (The Butterfly Effect of Model Editing, arXiv 2402.09656) find perplexity to tell collapse before any
task does. Here on unseen facts that must not change, by default on the objects only: with `train.loss_on=answer`
nothing else was ever learned, and the perplexity of whole sentences, in the tens of thousands, differs between equally
good models. With `loss_on=all` ask for sentences; their filler is random, so that no training removes a floor: read the
ratio. `factor` = 10 is this project's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from unlearn_cli.component import Positive, component
from unlearn_cli.evaluation import Arrays, Evaluation, Floats, Ids, MetricValue, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import ROLES, splits_of, why_empty
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.valuing import from_parts
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.token_scores import TokenScores
from unlearn_cli.statistics import Part

NAME, ASKED = "collapse", "retain/unseen"
TOKENS = TokenScores()


@component
class Collapse(Metric):
    """perplexity = exp(mean negative log-likelihood of a token), 1 or more; ratio = the model's / the base's, ideal 1.

    collapsed = 1 if the ratio is above `factor`, else 0.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    tokens: Literal["answer", "sentence"] = "answer"  # the object's | all of a sentence, for train.loss_on=all
    factor: Positive = 10.0  # ratio above which the model counts as collapsed

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Every token of whole sentences."""
        return (TOKENS,)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`collapse/<perplexity|ratio|collapsed>`."""
        units = {"perplexity": "tokens", "ratio": "ratio", "collapsed": "yes or no"}
        splits = splits_of(evaluation.probes, ASKED)
        why = None if splits else why_empty(evaluation.probes, ASKED)
        if splits and not (evaluation.seen(TOKENS, "edited") and evaluation.seen(TOKENS, "base")):
            why = "the tokens were not scored"
        if why:
            return {f"{NAME}/{kind}": skipped(unit, "lower", why) for kind, unit in units.items()}
        rows = np.unique(np.concatenate([split.rows for split in splits]))
        which = {"answer": "answer", "sentence": "real"}[self.tokens]
        parts = {role: _parts(evaluation, role, rows, which) for role in ROLES}
        how = {"perplexity": _perplexity, "ratio": _ratio, "collapsed": self._collapsed}
        return {
            f"{NAME}/{kind}": from_parts(parts, evaluation.bootstrap, unit, "lower", combine=how[kind])
            for kind, unit in units.items()
        }

    def _collapsed(self, means: Floats) -> Floats:
        ratio = _ratio(means)
        return np.where(np.isnan(ratio), np.nan, (ratio > self.factor).astype(np.float64))


def _parts(evaluation: Evaluation, role: Role, rows: Ids, which: str) -> list[Part]:
    """Of each sentence: loss of the model, loss of the base, tokens; a mean over models. Empty without the role."""
    models, (base,) = evaluation.seen(TOKENS, role), evaluation.seen(TOKENS, "base")
    if not models:
        return []
    place = np.searchsorted(base["rows"], rows)
    ours = np.mean([_loss(arrays, place, which) for arrays in models], axis=0)
    columns = (ours, _loss(base, place, which), base[which][place].sum(axis=1).astype(np.float64))
    return [Part(column, evaluation.probes.cluster[rows]) for column in columns]


def _loss(arrays: Arrays, place: Ids, which: str) -> Floats:
    """Of each sentence, over the tokens that count."""
    loss: Floats = -np.where(arrays[which][place], arrays["logp"][place].astype(np.float64), 0.0).sum(axis=1)
    return loss


def _perplexity(means: Floats) -> Floats:
    return np.exp(means[..., 0] / means[..., 2])


def _ratio(means: Floats) -> Floats:
    return np.exp((means[..., 0] - means[..., 1]) / means[..., 2])
