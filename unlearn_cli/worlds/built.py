"""Worlds that were built already: the runs of a sweep have few between them."""

from __future__ import annotations

from unlearn_cli.cache.canonical import canonical_json
from unlearn_cli.config import plain
from unlearn_cli.worlds.base import World, WorldData

KEPT = 8  # worlds held at a time: the largest takes tens of megabytes


class Built:
    """Builds each world once while it is among the last few that were asked for."""

    def __init__(self) -> None:
        self._kept: dict[str, WorldData] = {}

    def __call__(self, world: World, seed: int) -> WorldData:
        """What `world.build(seed)` returns."""
        key = canonical_json([plain(world), seed])
        made = self._kept.pop(key, None) or world.build(seed)
        self._kept[key] = made  # the latest last
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return made
