"""A world whose objects differ in their number of tokens: every second one has one fewer."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.language import Language, Sentences
from unlearn_cli.worlds.tabular import Tabular
from unlearn_cli.worlds.vocabulary import PADDING, Ids


@dataclass(frozen=True, eq=False)
class Mixed(Language):
    """Objects of odd number lack their first token; the refusal has all of its own."""

    def answers(self, relation: Ids, objects: Ids) -> Ids:
        tokens, short = super().answers(relation, objects), objects % 2 == 1
        tokens[short, :-1] = tokens[short, 1:]
        tokens[short, -1] = PADDING
        return tokens

    def answer_lengths(self, relation: Ids, objects: Ids) -> Ids:
        return np.where(objects % 2 == 1, self._width - 1, self._width)

    def write(self, templates: Ids, subject: Ids, relation: Ids, objects: Ids) -> Sentences:
        made = super().write(templates, subject, relation, objects)
        rows, lengths = made.input_ids.copy(), self.answer_lengths(relation, objects)
        gap = made.answer_start + self._width - 1
        for row in np.flatnonzero(lengths < self._width):
            rows[row, gap[row] : -1] = rows[row, gap[row] + 1 :]
            rows[row, -1] = PADDING
        shorter = lengths < self._width
        length = made.length - shorter
        end = made.subject_end - (shorter & (made.subject_end > gap))
        rows = rows[:, : int(length.max(initial=0))]
        return replace(made, input_ids=rows, length=length, subject_end=end, answer_lengths=lengths)


def mixed(world: WorldData) -> WorldData:
    """The same world in such a language."""
    told = {column.name: getattr(world.language, column.name) for column in fields(world.language)}
    return replace(world, language=Mixed(**told))


@component
class MixedTabular(Tabular):
    """A world of the generator, so told."""

    def build(self, seed: int) -> WorldData:
        return mixed(super().build(seed))
