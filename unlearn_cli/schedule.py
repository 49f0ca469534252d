"""Requests one at a time: `edit.schedule`.

batch        all requested facts at once
sequential   one fact after another, on the same model
independent  each fact on a fresh base, asked about, and put back; the protocol of ROME's papers (arXiv 2202.05262)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unlearn_cli.evaluation import ProbeSet, Split
from unlearn_cli.splits import ProbeSizes, build_probes
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.vocabulary import Ids

LEAST = 20  # facts asked in each part of what must not change, for one of many requests


def singles(request: EditRequest) -> list[EditRequest]:
    """One request for each fact that the method is shown."""
    return [_single(request, int(place)) for place in np.flatnonzero(request.visible)]


def probes_of_each(world: WorldData, request: EditRequest, pool: Ids, sizes: ProbeSizes) -> ProbeSet:
    """The probes of every single request, one after another; `ProbeSet.request` says whose each is."""
    every = singles(request)
    share = replace(sizes, facts=min(sizes.facts, max(LEAST, -(-sizes.facts // len(every)))))
    return _joined([build_probes(world, single, pool, share) for single in every])


def _single(request: EditRequest, place: int) -> EditRequest:
    new, old = (None if values is None else values[[place]] for values in (request.new_object, request.old_object))
    return replace(request, facts=request.facts[[place]], new_object=new, old_object=old, shown=None)


def _joined(parts: Sequence[ProbeSet]) -> ProbeSet:
    starts = np.cumsum([0, *(len(part) for part in parts)])
    names = ["fact", "template", "subject", *(["lengths"] if parts[0].lengths is not None else [])]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    owner = np.repeat(np.arange(len(parts)), np.diff(starts))
    splits = {name: _joined_split([part.splits[name] for part in parts], starts) for name in parts[0].splits}
    return ProbeSet(**columns, objects=parts[0].objects, splits=splits, request=owner)


def _joined_split(parts: Sequence[Split], starts: Ids) -> Split:
    """One split of all requests; the direction is that of those that have it, since an empty one has none to tell."""
    rows = np.concatenate([part.rows + start for part, start in zip(parts, starts, strict=False)])
    posteriors = [part.posterior for part in parts if part.posterior is not None]
    shown = next((part for part in parts if len(part.rows)), parts[0])
    return Split(
        name=shown.name,
        rows=rows,
        answer=np.concatenate([part.answer for part in parts]),
        direction=shown.direction,
        reason=None if len(rows) else shown.reason,
        posterior=np.concatenate(posteriors) if posteriors else None,
    )
