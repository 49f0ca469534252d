"""Figures of many runs, as SVG and PNG; needs matplotlib (`pip install 'unlearn-cli[figures]'`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unlearn_cli.errors import UnlearnError

if TYPE_CHECKING:
    from unlearn_cli.analysis.fronts import Front
    from unlearn_cli.analysis.growth import Curve

INCHES = (5.2, 3.9)
# Okabe & Ito's colours, which colour-blind readers tell apart, with a marker each
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
MARKERS = "osD^vP*X"


def pareto(fronts: Sequence[Front], title: str, labels: tuple[str, str], stem: Path) -> None:
    """Every setting as a point; each method's front as stairs. Base is at (0, 1), gold at (1, about 1)."""
    figure, axes = _figure()
    for front, (colour, marker) in zip(fronts, _styles(), strict=False):
        points = front.points
        axes.scatter(*points.T, s=26, color=colour, marker=marker, alpha=0.55, linewidths=0)
        best = points[front.front]
        xs = np.concatenate([[0.0], best[:, 0]])
        axes.step(xs, np.concatenate([best[:1, 1], best[:, 1]]), where="pre", color=colour, lw=1.4)
        axes.scatter(*best.T, s=34, color=colour, marker=marker, label=f"{front.method} ({front.hypervolume.mean:.3f})")
    low = min(0.9, *(float(front.points[:, 1].min()) for front in fronts))
    axes.set(xlim=(-0.03, 1.03), ylim=(max(-0.03, low - 0.1), 1.03), xlabel=labels[0], ylabel=labels[1])
    axes.legend(title="method (hypervolume)", frameon=False, fontsize=8, title_fontsize=8, loc="lower left")
    _finish(figure, axes, title, stem)


def growth(curves: Mapping[str, Sequence[Curve]], title: str, stem: Path) -> None:
    """One panel for each metric: a line for each method over the number of facts, with intervals over seeds."""
    import matplotlib.ticker

    figure, panels = _figure(len(curves))
    for axes, (key, lines) in zip(np.atleast_1d(panels), curves.items(), strict=True):
        for line, (colour, marker) in zip(lines, _styles(), strict=False):
            means = np.array([point.mean for point in line.points])
            axes.plot(line.sizes, means, color=colour, marker=marker, lw=1.4, ms=5, label=line.name)
            ends = [point.ci or (point.mean, point.mean) for point in line.points]
            bounds = (0, 1) if line.unit in ("share", "probability") else (-np.inf, np.inf)
            axes.fill_between(line.sizes, *np.clip(np.array(ends).T, *bounds), color=colour, alpha=0.12, lw=0)
        sizes = sorted({size for line in lines for size in line.sizes})
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axes.set(xlabel="requested facts", ylabel=key)
        axes.legend(frameon=False, fontsize=8)
    _finish(figure, panels, title, stem)


def _styles() -> Iterator[tuple[str, str]]:
    """A colour and a marker each; after the last colour the pairs change."""
    for number in itertools.count():
        turn = number // len(COLOURS)
        yield COLOURS[number % len(COLOURS)], MARKERS[(number + turn) % len(MARKERS)]


def _figure(panels: int = 1) -> tuple[Any, Any]:
    try:
        import matplotlib
    except ImportError:
        raise UnlearnError("figures need matplotlib: pip install 'unlearn-cli[figures]', or --no-figures") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    made: tuple[Any, Any] = pyplot.subplots(1, panels, figsize=(INCHES[0] * panels, INCHES[1]), layout="constrained")
    return made


def _finish(figure: Any, axes: Any, title: str, stem: Path) -> None:
    from matplotlib import pyplot

    for one in np.atleast_1d(axes):
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.25, lw=0.6)
    figure.suptitle(title, fontsize=9)
    for suffix in (".svg", ".png"):
        figure.savefig(stem.with_suffix(suffix), dpi=160)
    pyplot.close(figure)
