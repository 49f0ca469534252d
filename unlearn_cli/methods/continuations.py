"""How many of a relation's objects an answer can still become, token by token."""

from __future__ import annotations

import numpy as np

from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.vocabulary import PADDING, Ids


def continuations(world: WorldData, relations: Ids, answers: Ids, size: int) -> Ids:
    """For answers [B, T] of `relations` [B]: [B, T, size] objects that begin as the answer does and go on with a token.

    Divided by their sum they are the next token's distribution, if every object is as likely. An object that has ended
    does not go on; where none does, behind the end of an answer, PADDING stands for all.
    """
    found = np.zeros((*answers.shape, size), dtype=np.int64)
    for relation in np.unique(relations):
        rows, objects = np.flatnonzero(relations == relation), world.candidates(int(relation))
        lengths = world.candidate_lengths(int(relation))
        alive = np.ones((len(rows), len(objects)), dtype=bool)
        for place in range(objects.shape[1]):
            tokens = objects[:, place]
            going = alive if lengths is None else alive & (lengths > place)
            row, which = np.nonzero(going)
            np.add.at(found[:, place], (rows[row], tokens[which]), 1)
            found[rows[~going.any(axis=1)], place, PADDING] = 1
            alive &= tokens == answers[rows, place, None]
    return found
