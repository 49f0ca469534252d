"""Are the weights that write the forgotten objects still there? ConceptVectors (Hong et al. 2024, arXiv 2406.11614).

Departures: vectors are found by attribution (`observations/concepts.py`), not by a language model's judgement; k = 200
top tokens at most a tenth of the vocabulary, since in a vocabulary of 300 random sets of 200 share half; answers are
compared as equal or not, in place of BLEU and ROUGE; the base's decoder reads both models, or a changed output layer
would count. Source of the noise of 0.1: the authors' code. Trap: a rotated basis, or knowledge moved elsewhere, passes
for erased; gold comes from other initial weights, so its column is what chance gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, lgamma
from typing import Any, ClassVar

import numpy as np

from unlearn_cli.component import Count, NonNegative, component
from unlearn_cli.evaluation import Arrays, Direction, Evaluation, Floats, MetricValue, Reading, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.readings import mean_reading, measured
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.concepts import Concepts
from unlearn_cli.statistics import Part

NAME = "concept_vectors"
LEVEL = 0.01  # of the test for enrichment
VALUES: dict[str, tuple[str, Direction]] = {
    "cosine": ("cosine", "lower"),
    "distance": ("weight", "higher"),
    "jaccard": ("Jaccard", "lower"),
    "intrinsic": ("share", "higher"),
    "enriched": ("share", "descriptive"),
    "ablated_own": ("share", "descriptive"),
    "ablated_unrelated": ("share", "descriptive"),
    "selectivity": ("share", "descriptive"),
}


@component
class ConceptVectors(Metric):
    """Means over the requested objects; intervals resample objects.

    /cosine, /distance, /jaccard of each vector before and after, the last of its k top tokens; /jaccard_random, k /
    (2 V - k), its value for two random sets; /intrinsic = 1 - (max(cosine, 0) + jaccard) / 2, 0 unchanged to 1 gone;
    /enriched, share of the base's vectors whose top tokens hold more of the relation's objects than chance (p below
    0.01, hypergeometric). Without its vectors: /ablated_own, share of the object's own answers that change;
    /ablated_unrelated, of those of other objects; /selectivity, their difference: near 1 in the base if the vectors are
    what the facts are read from.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    vectors: Count = 10  # columns of a concept
    tokens: Count = 200  # top tokens of a vector, at most a tenth of the vocabulary
    noise: NonNegative | None = None  # null: vectors are zeroed; else Gaussian noise of this standard deviation
    unrelated: Count = 5  # other objects whose answers are compared

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The vectors."""
        return (Concepts(vectors=self.vectors, tokens=self.tokens, noise=self.noise, unrelated=self.unrelated),)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`concept_vectors/<name>`."""
        (observation,) = self.observations
        seen = {role: evaluation.seen(observation, role) for role in ("edited", "base", "gold")}

        def read(role: Any, name: str) -> Reading | None:
            found = [concept_values(arrays)[name] for arrays in seen[role]]
            if not found:
                return None
            values = np.mean(found, axis=0)
            return mean_reading([Part(values, np.arange(len(values)))], evaluation.bootstrap)

        values = {
            f"{NAME}/{name}": measured(
                read("edited", name), unit, direction, base=read("base", name), gold=read("gold", name)
            )
            for name, (unit, direction) in VALUES.items()
        }
        k, size, _, vectors = seen["edited"][0]["counts"]
        n = int(vectors * len(seen["edited"][0]["same"]))
        values[f"{NAME}/jaccard_random"] = measured(Reading(float(k / (2 * size - k)), n), "Jaccard", "descriptive")
        return values


def concept_values(arrays: Arrays) -> dict[str, Floats]:
    """Each number of every concept [C], averaged over its vectors."""
    k, size, objects, _ = (int(count) for count in arrays["counts"])
    likely = {hits: enrichment(hits, k, objects, size) for hits in np.unique(arrays["hits"]).tolist()}
    intrinsic = 1 - (np.maximum(arrays["cosine"], 0) + arrays["jaccard"]) / 2
    enriched = np.vectorize(lambda hits: float(likely[hits] < LEVEL))(arrays["hits"])
    own, other = 1 - arrays["same"], 1 - arrays["same_unrelated"]
    found = {name: arrays[name].mean(1) for name in ("cosine", "distance", "jaccard")}
    found |= {"intrinsic": intrinsic.mean(1), "enriched": enriched.mean(1)}
    return found | {"ablated_own": own, "ablated_unrelated": other, "selectivity": own - other}


def enrichment(hits: int, k: int, objects: int, size: int) -> float:
    """P(at least `hits` of `objects` marked tokens among k drawn of `size` without replacement)."""

    def log_choose(n: int, r: int) -> float:
        return lgamma(n + 1) - lgamma(r + 1) - lgamma(n - r + 1)

    most, least = min(k, objects), max(hits, k + objects - size, 0)
    terms = (
        log_choose(objects, i) + log_choose(size - objects, k - i) - log_choose(size, k) for i in range(least, most + 1)
    )
    return min(1.0, sum(map(exp, terms)))
