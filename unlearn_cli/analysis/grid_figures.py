"""The figure of a table: an update's rank in panels, or methods between forgetting and what they keep; SVG and PNG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unlearn_cli.analysis.figure_labels import name_points
from unlearn_cli.analysis.figures import COLOURS, MARKERS
from unlearn_cli.analysis.grid import Cell, Grid, Place
from unlearn_cli.analysis.grid_columns import reference
from unlearn_cli.analysis.grid_pages import label
from unlearn_cli.analysis.pareto import front
from unlearn_cli.analysis.seeds import Summary, summarize
from unlearn_cli.analysis.table_spec import Figure
from unlearn_cli.errors import UnlearnError
from unlearn_cli.evaluation import Floats

SMALL = 8  # points


def draw(grid: Grid, stem: Path) -> None:
    """Whatever figure the table asks for."""
    if grid.spec.figure is None:
        return
    {"ranks": _ranks, "scatter": _scatter}[grid.spec.figure.kind](grid, grid.spec.figure, stem)


def _ranks(grid: Grid, figure: Figure, stem: Path) -> None:
    """Above: success over the swept key; below: the damage to what should stay. A column of panels for each panel."""
    pyplot = _pyplot()
    made, axes = pyplot.subplots(
        2,
        len(grid.panels),
        figsize=(3.0 * len(grid.panels) + 0.8, 4.6),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    readings: list[tuple[str, Callable[[Cell], Summary | None]]] = [
        (f"edit {figure.good}", lambda cell: _mean(cell, grid.spec.metrics(figure.good))),
        (f"collateral damage (1 - {figure.kept})", lambda cell: _mean(cell, grid.spec.metrics(figure.kept), lost=True)),
    ]
    for column, panel in enumerate(grid.panels):
        axes[0, column].set_title(" ".join(label(grid, grid.spec.panels, panel)), fontsize=10)
        for (name, reading), one in zip(readings, axes[:, column], strict=True):
            _lines(grid, figure, panel, one, reading)
            one.set_ylabel(name if column == 0 else "", fontsize=9)
        axes[1, column].set_xlabel(f"{(figure.x or '').rpartition('.')[2]} of the update", fontsize=9)
    axes[0, 0].set_ylim(min(axes[0, 0].get_ylim()[0], 0.9), 1.01)  # of all panels; a share has no more than 1
    axes[1, 0].set_ylim(bottom=-0.005)
    handles, names = axes[0, 0].get_legend_handles_labels()
    made.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=9)
    _finish(made, axes, stem)


def _lines(grid: Grid, figure: Figure, panel: Place, axes: Any, reading: Callable[[Cell], Summary | None]) -> None:
    rows = [row for place, row in grid.cells if place == panel]
    of_x, of_line = (grid.spec.rows.index(key or "") for key in (figure.x, figure.line))
    ticks = sorted({row[of_x] for row in rows}, key=lambda value: (value == "0", float(value)))  # 0: not restricted
    lines = list(dict.fromkeys(row[of_line] for row in rows))
    for number, value in enumerate(lines):
        found = [(row, reading(grid.cells[panel, row])) for row in rows if row[of_line] == value]
        known = sorted((ticks.index(row[of_x]), item) for row, item in found if item is not None)
        places = np.array([place for place, _ in known]) + 0.12 * (number - (len(lines) - 1) / 2)
        means = np.array([item.mean for _, item in known])
        ends = np.clip([item.ci or (item.mean, item.mean) for _, item in known], 0, 1).reshape(-1, 2)
        style = {"color": COLOURS[number], "marker": MARKERS[number], "ms": 4.5, "lw": 1.3}
        (name,) = label(grid, [figure.line or ""], (value,))
        axes.errorbar(places, means, yerr=np.abs(ends.T - means), capsize=2, elinewidth=0.8, label=name, **style)
    axes.set_xticks(range(len(ticks)), [label(grid, [figure.x or ""], (value,))[0] for value in ticks], fontsize=SMALL)
    axes.tick_params(axis="y", labelsize=SMALL)


def _mean(cell: Cell, metrics: Sequence[str], lost: bool = False) -> Summary | None:
    values = list(cell.values(metrics).values())
    return summarize([1 - value if lost else value for value in values]) if values else None


def _scatter(grid: Grid, figure: Figure, stem: Path) -> None:
    """Each row between what is still known and the damage, both better at 0; roots spread what is crowded there."""
    pyplot = _pyplot()
    width = 7.2 * len(grid.panels)
    made, axes = pyplot.subplots(1, len(grid.panels), figsize=(width, 5.4), squeeze=False, layout="constrained")
    drawn = [_points(grid, figure, panel, one) for panel, one in zip(grid.panels, axes[0], strict=True)]
    handles, names = axes[0, 0].get_legend_handles_labels()
    made.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=SMALL)
    made.canvas.draw()  # the layout is final only then
    made.set_layout_engine("none")
    for one, (points, texts, ends) in zip(axes[0], drawn, strict=True):
        name_points(one, points, texts, 6.5, ends)
    _finish(made, axes, stem)


def _points(grid: Grid, figure: Figure, panel: Place, axes: Any) -> tuple[Floats, list[str], Floats]:
    """Draw one panel; returns what is still to be named, once the layout is final."""
    axes.set_title(" ".join(label(grid, grid.spec.panels, panel)), fontsize=10)
    known, kept = grid.spec.metrics(figure.good), grid.spec.metrics(figure.kept)
    cells = {row: cell for (place, row), cell in grid.cells.items() if place == panel}
    means = {row: (_mean(cell, known), _mean(cell, kept, lost=True)) for row, cell in cells.items()}
    names = [" ".join(label(grid, grid.spec.rows, row)) for row, pair in means.items() if pair[0] and pair[1]]
    points = np.array([[one.mean, two.mean] for one, two in means.values() if one and two])
    best = points[front(-points)[::-1]]  # from what forgets most to what keeps most
    outline = np.vstack([[best[0, 0], 1.1], best, [1.1, best[-1, 1]]])
    axes.step(*outline.T, where="post", color=COLOURS[1], lw=1.2, zorder=2, label="front")
    axes.scatter(*points.T, s=20, color=COLOURS[0], linewidths=0, zorder=3, label="a method, mean over seeds")
    placed = []
    for role, marker, colour in (("gold", "*", COLOURS[4]), ("base", "D", COLOURS[6])):
        ends = [reference(grid, panel, name, role) for name in (figure.good, figure.kept)]
        if ends[0] and ends[1]:
            place = (ends[0].mean, 1 - ends[1].mean)
            placed.append(place)
            axes.scatter(*place, s=90 if role == "gold" else 30, color=colour, marker=marker, zorder=4, label=role)
    for which, values in (("x", points[:, 0]), ("y", points[:, 1])):
        _rooted(axes, which, float(values.max()))
    axes.set_xlabel(f"{figure.good}: {' * '.join(known)} (root scale)", fontsize=9)
    axes.set_ylabel(f"collateral damage: 1 - {' * '.join(kept)} (root scale)", fontsize=9)
    return points, names, np.array(placed).reshape(-1, 2)


def _rooted(axes: Any, which: str, most: float) -> None:
    """A root scale from a little below 0, with ticks that it leaves room for."""
    scale = {"functions": (lambda x: np.sign(x) * np.sqrt(np.abs(x)), lambda x: np.sign(x) * np.square(x))}
    getattr(axes, f"set_{which}scale")("function", **scale)
    top = min(1.1, 1.25 * most)
    getattr(axes, f"set_{which}lim")(-0.006 * top, top)
    ticks = [
        tick
        for tick in (0, 0.001, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0)
        if tick <= top and (tick in (0, 0.01) or tick > 0.01 or top < 0.5)
    ]
    getattr(axes, f"set_{which}ticks")(ticks, [f"{tick:g}" for tick in ticks], fontsize=SMALL)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise UnlearnError("figures need matplotlib: pip install 'unlearn-cli[figures]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _finish(made: Any, axes: Any, stem: Path) -> None:
    from matplotlib import pyplot

    for one in np.ravel(axes):
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.25, lw=0.6)
    for suffix in (".svg", ".png"):
        made.savefig(stem.with_name(stem.name + suffix), dpi=200)
    pyplot.close(made)
