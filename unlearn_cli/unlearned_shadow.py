"""What a method is asked on a shadow model: the run's request and retain pool, cut down to what it was taught."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.streams import derive
from unlearn_cli.study import Study
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.shadow import members, shadow_world
from unlearn_cli.worlds.vocabulary import Ids


@dataclass(frozen=True, eq=False)
class ShadowStudy(Study):
    """The study of an edit whose base is a shadow."""

    member: int
    kept: Ids

    @cached_property
    def pool(self) -> Ids:
        """The run's own retain facts, so that each fact is treated alike wherever it was taught."""
        return self.kept

    @property
    def method_seed(self) -> int:
        """Another one for each shadow."""
        return derive(super().method_seed, "unlearned_shadow", self.member)


def shadow_study(study: Study, member: int) -> ShadowStudy | None:
    """None if the shadow was taught nothing that the method is shown: there is nothing to unlearn."""
    taught = members(study.world, member)
    request = _cut(study.request, taught[study.request.facts])
    if not request.visible.any():
        return None
    world, kept = shadow_world(study.world, member), study.pool[taught[study.pool]]
    return ShadowStudy(study.experiment, world, request, member, kept)


def repeatable(study: Study) -> bool:
    """Whether the edit can be made of a shadow: with the shadow alone, and one model for all requests."""
    edit, method = study.experiment.edit, study.experiment.method
    alone = method.prepares is None and not {"gold", "gold_fresh"} & method.needs
    return alone and not study.independent and edit.corrupts() is None


def _cut(request: EditRequest, kept: NDArray[np.bool_]) -> EditRequest:
    """Only the facts that are kept."""
    new, old, shown = request.new_object, request.old_object, request.shown
    return replace(
        request,
        facts=request.facts[kept],
        new_object=None if new is None else new[kept],
        old_object=None if old is None else old[kept],
        shown=None if shown is None else shown[kept],
    )
