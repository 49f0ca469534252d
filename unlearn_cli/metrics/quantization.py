"""Does it come back by rounding the weights? Zhang et al. 2025 (arXiv 2410.16454).

Published: methods that keep utility held on average 21 % of what was to be forgotten, 83 % after 4 bits. Departures:
step with 2^(b-1) - 1, so that the largest weight of a group is kept; groups of weights; NF4 (Dettmers et al. 2023,
arXiv 2305.14314) without its second quantisation, of the steps; no GPTQ or AWQ. Trap: a small model broken by 3 bits
"forgets" too: read `/retain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import model_validator

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Evaluation, MetricValue, Reading, Role
from unlearn_cli.metrics.attack import AttackMetric
from unlearn_cli.metrics.readings import measured
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.quantized import Bits, Quantized, Scheme


@component
class Quantization(AttackMetric):
    """Accuracy on requested facts with rounded weights, and the share of weights that round to the base's.

    /collision_codes compares the integers, /collision_values what they stand for: where a group's largest weight moved,
    so did every value of it, and equal codes are the mechanism by which an edit vanishes.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "quantization"

    bits: Bits = 4  # of each weight
    group: Count = 64  # weights that share a step
    scheme: Scheme = "rtn"  # evenly spaced values, or normal floats

    @model_validator(mode="after")
    def _possible(self) -> Quantization:
        if self.scheme == "nf4" and self.bits != 4:
            raise ValueError(f"bits = {self.bits}: scheme=nf4 has 4 bits")
        return self

    @property
    def label(self) -> str:
        """`quantization_<bits>`, or `quantization_nf4`."""
        return f"{self.name}_{self.bits if self.scheme == 'rtn' else self.scheme}"

    @property
    def attack(self) -> Observation:
        """The rounding."""
        return Quantized(bits=self.bits, group=self.group, scheme=self.scheme)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """The attack's values, and `/collision_codes`, `/collision_values`."""
        shared = {
            f"{self.label}/collision_{kind}s": self._collision(evaluation, f"same_{kind}") for kind in ("code", "value")
        }
        return {**super().compute(evaluation), **shared}

    def _collision(self, evaluation: Evaluation, name: str) -> MetricValue:
        read = {role: self._share(evaluation, role, name) for role in ("base", "edited", "gold")}
        nothing = "the model has no linear layer"
        return measured(read["edited"], "share", "descriptive", base=read["base"], gold=read["gold"], undefined=nothing)

    def _share(self, evaluation: Evaluation, role: Role, name: str) -> Reading | None:
        found = evaluation.seen(self.attack, role)
        if not found or not found[0]["weights"]:
            return None
        return Reading(float(np.mean([arrays[name] / arrays["weights"] for arrays in found])), int(found[0]["weights"]))
