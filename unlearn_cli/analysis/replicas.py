"""Margins of many models of one world, from runs that differ in nothing but their replica, and their KLoM.

A replica has the same world, request and probes as the others and models of its own: the base, edited and gold models
of N replicas are what `analysis.klom` compares. Margins come from the answers that the runs left in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from unlearn_cli.analysis.attacked import predictions, rebuilt
from unlearn_cli.analysis.klom import floor, klom, margins, summary
from unlearn_cli.analysis.runs import Run
from unlearn_cli.cache.canonical import canonical_sha256
from unlearn_cli.config import plain
from unlearn_cli.errors import UnlearnError
from unlearn_cli.evaluation import Floats, Predictions, ProbeSet
from unlearn_cli.experiment import Experiment
from unlearn_cli.metrics.probing import splits_of

SPLITS = ("forget", "retain/unseen", "holdout")
SHARED = ("world", "edit", "model", "train", "retain", "gold", "evaluate", "seed")  # what replicas have in common
FLOOR, CEILING = "gold against gold", "base"
LEAST = 2  # models on a side of a histogram, fewer say nothing

Models = dict[str, dict[str, Floats]]  # digest of a model -> split -> its margins [n]


@dataclass(frozen=True)
class Bench:
    """The models of all replicas of one world and request."""

    name: str
    base: Models = field(default_factory=dict)
    gold: Models = field(default_factory=dict)
    edited: dict[str, Models] = field(default_factory=dict)  # method and setting -> models


@dataclass(frozen=True)
class Line:
    """KLoM of some models against gold ones on the points of a split."""

    split: str
    models: str
    n: int  # models on each side
    points: int
    mean: float
    median: float
    p95: float


def benches(runs: Sequence[Run]) -> list[Bench]:
    """The margins of every model, each once, by what the runs have in common."""
    found: dict[str, Bench] = {}
    for run in runs:
        study = rebuilt(run.result.run_dir)
        bench = found.setdefault(_shared(study.experiment), Bench(run.place))
        _add(bench, run, study.probes, study.experiment.gold.n)
    return list(found.values())


def lines(bench: Bench) -> list[Line]:
    """Of every split: gold against gold, every method, the base; UnlearnError where there are too few models.

    All are against the second half of the gold models, and of as many models as that: the noise of the bins grows as
    models get fewer, and is to be the same in what is compared.
    """
    few = [f"{len(models)} of {name}" for name, models in bench.edited.items() if len(models) < LEAST]
    few += [f"{len(bench.gold)} of gold"] if len(bench.gold) < 2 * LEAST else []
    if few:
        raise UnlearnError(
            f"{bench.name}: {', '.join(few)}; KLoM needs {LEAST} edited and {2 * LEAST} gold models or more, "
            "as replica=range(0,8) makes them"
        )
    return [line for split in SPLITS for line in _of_split(bench, split)]


def _of_split(bench: Bench, split: str) -> list[Line]:
    gold, sides = _stacked(bench.gold, split), {**bench.edited, CEILING: bench.base}
    if not gold.shape[1]:
        return []
    n = min(len(gold) // 2, *(len(models) for models in sides.values()))
    compared = {FLOOR: floor(gold[: 2 * n])}
    compared |= {name: klom(_stacked(models, split)[:n], gold[n : 2 * n]) for name, models in sides.items()}
    return [Line(split, name, n, gold.shape[1], **summary(found)) for name, found in compared.items()]


def _stacked(models: Models, split: str) -> Floats:
    """Margins [models, points]."""
    return np.stack([of_model[split] for of_model in models.values()])


def _shared(experiment: Experiment) -> str:
    """The same for all replicas of one world, request and probes."""
    return canonical_sha256(
        {name: plain(getattr(experiment, name)) for name in SHARED} | {"files": experiment.world.source()}
    )


def _add(bench: Bench, run: Run, probes: ProbeSet, gold: int) -> None:
    """Note the models of one run; base and gold are shared by all methods of a replica.

    Beside the `gold` reference models a run may list one more, which its method took.
    """
    stages = run.result.stages
    golds = [member["digest"] for member in stages.get("gold", {}).get("members", ())][:gold]
    edited = bench.edited.setdefault(run.row, {})
    answers = list(predictions(run.result))[: 2 + len(golds)]
    homes = [bench.base, edited, *(bench.gold for _ in golds)]
    digests = [stages["train"]["digest"], stages["edit"]["digest"], *golds]
    for home, digest, answer in zip(homes, digests, answers, strict=True):
        if digest not in home:
            home[digest] = _margins(answer, probes)


def _margins(answers: Predictions, probes: ProbeSet) -> dict[str, Floats]:
    """By split; a probe that stands in several must-not-change splits is a point once."""
    found = {}
    for name in SPLITS:
        splits = splits_of(probes, name)
        rows = np.concatenate([np.empty(0, dtype=np.int64), *(split.rows for split in splits)])
        answer = np.concatenate([np.empty(0, dtype=np.int64), *(split.answer for split in splits)])
        rows, first = np.unique(rows, return_index=True)
        found[name] = margins(answers, rows, answer[first])
    return found
