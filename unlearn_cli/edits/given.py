"""The request that the user's files bring: all of their forget items, with their targets if they have any."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.edits.base import Edit, Schedule
from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.base import Given, WorldData
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.request import EditRequest

TOLD = 5  # rows that are named


@component
class Forgetting(Edit):
    """Forget every item of the forget file."""

    VERSION: ClassVar[int] = 1
    op: ClassVar[str] = "forget"

    schedule: Schedule = "batch"  # all at once | one after another | each on a fresh base

    def resolve(self, world: WorldData, rng: np.random.Generator) -> EditRequest:
        """As given; a ConfigError for a world that brings no request."""
        facts = given(world).facts
        if unknown := int((world.facts.object[facts] == REFUSAL).sum()):
            told = f"{unknown} of {len(facts)} requested rows name no answer (column answer or ground_truth)"
            raise ConfigError([f"edit: {told}, so that there is nothing to forget; give each one, or edit=given_remap"])
        return EditRequest(self.op, facts)


@component
class Changing(Edit):
    """Change every item of the forget file to its target."""

    VERSION: ClassVar[int] = 1
    op: ClassVar[str] = "remap"

    schedule: Schedule = "batch"

    def resolve(self, world: WorldData, rng: np.random.Generator) -> EditRequest:
        """As given; a ConfigError for a world that brings no request, or one without targets."""
        found = given(world)
        if found.new_object is None:
            rows, more = found.untargeted[:TOLD], len(found.untargeted) - TOLD
            told = ", ".join(rows) + (f" and {more} more" if more > 0 else "")
            few = f"{len(found.untargeted)} of {len(found.facts)} requested rows have no target ({told})"
            raise ConfigError([f"edit: {few}; edit=given forgets, or give every row one"])
        return EditRequest(self.op, found.facts, found.new_object)


def given(world: WorldData) -> Given:
    """The request that came with the facts."""
    if world.given is None or not len(world.given.facts):
        raise ConfigError(["edit: needs a world that brings its request: world=qa, text or edits"])
    return world.given
