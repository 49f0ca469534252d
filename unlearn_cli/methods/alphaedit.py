"""AlphaEdit: MEMIT with the change confined to directions that old keys hardly use.

Fang et al. 2025 (arXiv 2410.02355), eq. 12: R K' P (K_p K_p' P + K K' P + lam I)^-1, P the projector on eigenvectors
of C of low energy, K_p the keys of all earlier requests of a sequence (`edit.schedule=sequential`), whose values the
later ones spare; C and P are those of the model before the first. With `cache=false` every request is a first one.
For given values, a sequence with the cache ends where an edit of all its facts at once does.
Departures: the paper keeps eigenvalues below an absolute 2e-2 and has an absolute lam of 10. Both depend on the scale
of the keys: in small models nothing lies below 2e-2 and there is no edit. Here P keeps a fraction of the directions
unless `null_threshold` is set, and lam is in units of the mean diagonal of C. The report has the rank of P. Published:
blocks and values as in MEMIT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from unlearn_cli.component import Fraction, Positive, component
from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods.editing.editor import Editor, Wanted

if TYPE_CHECKING:
    from torch import Tensor


@component
class AlphaEdit(Editor):
    """Null-space constrained editing."""

    layers: Annotated[list[int], Field(min_length=1)] = Field(default_factory=lambda: [-1])
    null_fraction: Fraction | None = 0.5
    null_threshold: Positive | None = None
    lam: Positive = 5.0
    cache: bool = True

    @model_validator(mode="after")
    def _one_rule(self) -> AlphaEdit:
        if (self.null_fraction is None) == (self.null_threshold is None):
            raise ValueError(
                f"null_fraction = {self.null_fraction}: set either it or null_threshold = {self.null_threshold}"
            )
        return self

    @property
    def edited_layers(self) -> tuple[int, ...]:
        """As given."""
        return tuple(self.layers)

    @property
    def remembers(self) -> bool:
        """C, P and the keys of earlier requests, as published."""
        return self.cache

    def projector(self, moment: Tensor) -> Tensor:
        """P [d_ff, d_ff]; UnlearnError if it keeps nothing."""
        from unlearn_cli.methods.editing.solve import low_energy

        found = low_energy(moment, self.null_fraction, self.null_threshold)
        if not bool(found.any()):
            raise UnlearnError("method.null_threshold: no direction of the old keys has so little energy: no edit")
        return found

    def describe(self, moment: Tensor) -> dict[str, float]:
        """The rank of P."""
        return {"null_rank": round(float(self.projector(moment).trace()))}

    def delta(self, moment: Tensor, wanted: Wanted) -> Tensor:
        """R K' P (K_p K_p' P + K K' P + lam I)^-1."""
        from unlearn_cli.methods.editing.solve import projected

        ridge = self.lam * float(moment.diagonal().mean())
        return projected(self.projector(moment), wanted.keys, wanted.change, ridge, wanted.earlier)
