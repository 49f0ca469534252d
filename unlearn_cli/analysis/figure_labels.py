"""Names beside points, none over another: each takes the nearest free place around its point, far ones with a line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from unlearn_cli.evaluation import Floats

NEAR, FAR, STEP = 7.0, 170.0, 5.0  # distances that are tried, pixels at 100 dpi
ANGLES = 24
MARKER = 4.0  # half of a marker's side, pixels at 100 dpi

Box = tuple[float, float, float, float]  # left, bottom, right, top


def name_points(axes: Any, points: Floats, names: Sequence[str], size: float, others: Floats) -> None:
    """Write the names, clear of the points and of `others`; the axes' limits and scales must be final."""
    from matplotlib.patheffects import withStroke

    canvas, scale = axes.figure.canvas, axes.figure.dpi / 100
    places = axes.transData.transform(points)
    renderer = canvas.get_renderer()
    bounds = axes.get_window_extent(renderer)
    inside = (bounds.x0, bounds.y0, bounds.x1, bounds.y1)
    taken: list[Box] = [_around(x, y, 2 * MARKER * scale, 2 * MARKER * scale) for x, y in places]
    taken += [_around(x, y, 3 * MARKER * scale, 3 * MARKER * scale) for x, y in axes.transData.transform(others)]
    for number in _crowded_first(places):
        text = axes.text(*points[number], names[number], fontsize=size, ha="center", va="center", zorder=5)
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
        extent = text.get_window_extent(renderer)
        width, height = extent.width + 2 * scale, extent.height
        across, up = map(float, places[number])
        tried = [(_around(x, y, width, height), far) for x, y, far in _tried(across, up, width, height, scale)]
        free = (
            (box, distance)
            for box, distance in tried
            if _within(box, inside)
            and not any(_overlap(box, other) for other in taken)
            and not (distance > NEAR * scale and _passes(places, number, _edge(box, across, up), MARKER * scale))
        )
        box, distance = next(free, tried[0])
        taken.append(box)
        back = axes.transData.inverted().transform
        text.set_position(back(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)))
        if distance > NEAR * scale:
            ends = back([places[number], _edge(box, across, up)])
            axes.plot(*ends.T, color="0.35", lw=0.6, zorder=2.5)  # over lines, under points


def _crowded_first(places: Floats) -> list[int]:
    """Points with near neighbours choose before those with room."""
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    return [int(i) for i in np.argsort(np.sort(distances, axis=1)[:, : min(6, len(places))].sum(1), kind="stable")]


def _tried(x: float, y: float, width: float, height: float, scale: float) -> Iterator[tuple[float, float, float]]:
    """Centres of a label, the nearest first; to the right before elsewhere."""
    for distance in np.arange(NEAR, FAR, STEP) * scale:
        for turn in range(ANGLES):
            angle = 2 * math.pi * ((turn + 1) // 2) / ANGLES * (-1) ** turn
            across, up = math.cos(angle), math.sin(angle)
            yield x + across * (distance + width / 2), y + up * (distance + height / 2), distance


def _passes(places: Floats, number: int, end: tuple[float, float], near: float) -> bool:
    """Whether a line from a point to `end` comes near another point, so that the name could be taken for that one's."""
    start = places[number]
    way = np.asarray(end) - start
    apart = places[np.linalg.norm(places - start, axis=1) > near] - start
    along = np.clip(apart @ way / max(float(way @ way), 1e-9), 0, 1)
    return bool((np.linalg.norm(apart - along[:, None] * way, axis=1) < near).any())


def _around(x: float, y: float, width: float, height: float) -> Box:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _within(box: Box, outer: Box) -> bool:
    return box[0] >= outer[0] and box[1] >= outer[1] and box[2] <= outer[2] and box[3] <= outer[3]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _edge(box: Box, x: float, y: float) -> tuple[float, float]:
    """The point of a box nearest to (x, y)."""
    return min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
