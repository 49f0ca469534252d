"""The settings of each method between forgetting and utility: front, hypervolume, best at a floor, UPCORE's area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unlearn_cli.analysis.pareto import Scale, best_forgetting, best_utility, front, hypervolume
from unlearn_cli.analysis.runs import Run, grouped
from unlearn_cli.analysis.seeds import Summary, summarize
from unlearn_cli.analysis.tradeoff import tradeoff_auc
from unlearn_cli.evaluation import Floats, Ids

KNOWLEDGE, UTILITY = "fact_accuracy/forget", "fact_accuracy/retain/unseen"
ADVISED = 8  # settings of a method that is searched


@dataclass(frozen=True)
class Axes:
    """Which metrics are the two scores."""

    knowledge: str = KNOWLEDGE
    utility: str = UTILITY
    collapsed: float = 0.0  # utility of a model that has lost everything

    def scores(self, run: Run) -> tuple[float, float] | None:
        """Forgetting and utility of one run, 0 to 1; None where a model or a metric is missing."""
        known, unknown = run.value(self.knowledge, "base"), run.value(self.knowledge, "gold")
        intact = run.value(self.utility, "base")
        mine, kept = run.value(self.knowledge), run.value(self.utility)
        if known is None or unknown is None or intact is None or mine is None or kept is None:
            return None
        scale = Scale(known, unknown, intact, self.collapsed)
        forgotten, useful = scale.forgetting(mine), scale.utility(kept)
        return None if forgotten is None or useful is None else (forgotten, useful)


@dataclass(frozen=True)
class Front:
    """One method on one bench."""

    method: str
    settings: list[str]
    points: Floats  # [settings, 2] forgetting and utility, mean over seeds
    front: Ids  # indices of the settings on it
    hypervolume: Summary  # over seeds
    utility: float | None  # best at forgetting >= 0.95, of the means
    forgetting: float | None  # best at utility >= 0.95, of the means
    area: Summary | None  # UPCORE's, anchored, over seeds; on the metrics as they are


def fronts(runs: Sequence[Run], axes: Axes) -> tuple[list[Front], list[str]]:
    """Every method's front, and the runs that have no scores."""
    scores = [axes.scores(run) for run in runs]
    scored = [run for run, score in zip(runs, scores, strict=True) if score is not None]
    left = [f"{run.row} seed={run.seed}" for run, score in zip(runs, scores, strict=True) if score is None]
    return [_front(method, members, axes) for method, members in grouped(scored, lambda r: r.method).items()], left


def _front(method: str, runs: Sequence[Run], axes: Axes) -> Front:
    settings = grouped(runs, lambda run: run.setting)
    points = np.array([_points(members, axes).mean(0) for members in settings.values()])
    volumes, areas = [], []
    for members in grouped(runs, lambda run: str(run.seed)).values():
        volumes.append(hypervolume(_points(members, axes)))
        area = _area(members, axes)
        areas += [] if area is None else [area]
    return Front(
        method=method,
        settings=list(settings),
        points=points,
        front=front(points),
        hypervolume=summarize(volumes),
        utility=best_utility(points),
        forgetting=best_forgetting(points),
        area=summarize(areas) if areas else None,
    )


def _points(runs: Sequence[Run], axes: Axes) -> Floats:
    return np.array([score for run in runs if (score := axes.scores(run)) is not None])


def _area(runs: Sequence[Run], axes: Axes) -> float | None:
    """UPCORE's area of the settings of one seed: deletion = 1 - knowledge, not scaled by gold."""
    x = np.array([1 - float(run.value(axes.knowledge) or 0.0) for run in runs])
    y = np.array([float(run.value(axes.utility) or 0.0) for run in runs])
    return tradeoff_auc(x, y, base_y=runs[0].value(axes.utility, "base"))
