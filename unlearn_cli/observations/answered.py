"""What a model answers when it speaks freely, and what kind of answer that is."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Ids
from unlearn_cli.metrics.probing import splits_of
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.observations.generated import Generated
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.vocabulary import OBJECT_MARK, PADDING

KINDS = ("refusal", "correct", "degenerate", "other_valid", "wrong_type")  # in the order of testing
REPEATED = 3  # equal tokens in a row that no answer has


@component
class Answered(Observation):
    """Greedy continuations of the probes of several splits or aggregates, and the kind of each."""

    VERSION: ClassVar[int] = 1

    sets: tuple[str, ...]  # splits or aggregates; empty ones are left out
    prefix: Literal["prompt"] | Count = Field(default="prompt")  # as in `Generated`
    max_new_tokens: Count | None = None  # null: as many as an object has
    most: Count | None = None  # probes of a set, drawn when there are more; null: all

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """Return `set` [n] (place in `sets`), `rows`, `tokens`, `reference` as in `Generated`, and `kind` [n].

        `kind` is a place in KINDS, told by the first tokens, as many as an object has.
        """
        found = []
        tokens = self.max_new_tokens or scene.world.refusal.shape[1]
        for number, name in enumerate(self.sets):
            if splits_of(scene.probes, name):
                asked = Generated(rows=name, prefix=self.prefix, max_new_tokens=tokens, most=self.most)
                arrays = asked.observe(model, scene)
                found.append({**arrays, "set": np.full(len(arrays["rows"]), number)})
        if not found:
            raise Unobservable(f"no probe is in any of: {', '.join(self.sets)}")
        joined = {name: np.concatenate([arrays[name] for arrays in found]) for name in found[0]}
        relation = scene.world.facts.relation[scene.probes.fact[joined["rows"]]]
        return joined | {"kind": kinds(scene.world, relation, joined["tokens"], joined["reference"])}


def kinds(world: WorldData, relation: Ids, tokens: Ids, reference: Ids) -> Ids:
    """Classify answers [n, m] about relations [n] whose right answer begins `reference` [n, m]: place in KINDS [n].

    The refusal comes first, since a world's is a mark repeated. What spells no object at all is degenerate.
    """
    said = tokens[:, : world.refusal.shape[1]]
    if said.shape[1] < world.refusal.shape[1]:
        raise Unobservable(f"an answer has {world.refusal.shape[1]} tokens; {said.shape[1]} were asked for")
    tests = {
        "refusal": (said == OBJECT_MARK).all(axis=1),
        "correct": (said == reference[:, : said.shape[1]]).all(axis=1),
        "degenerate": _repeats(tokens) | ~_object(world, said),
        "other_valid": _of_relation(world, relation, said),
    }
    return np.select(list(tests.values()), range(len(tests)), default=KINDS.index("wrong_type"))


def _repeats(tokens: Ids) -> NDArray[np.bool_]:
    """Whether a token stands REPEATED times in a row [n]; padding does not count."""
    found = np.zeros(len(tokens), dtype=bool)
    for start in range(tokens.shape[1] - REPEATED + 1):
        run = tokens[:, start : start + REPEATED]
        found |= (run == run[:, :1]).all(axis=1) & (run[:, 0] != PADDING)
    return found


def _object(world: WorldData, said: Ids) -> NDArray[np.bool_]:
    """Whether tokens [n, T] spell an object of any relation [n]."""
    every = np.unique(np.concatenate([world.candidates(r) for r in range(len(world.relations))]), axis=0)
    return _among(said, every)


def _of_relation(world: WorldData, relation: Ids, said: Ids) -> NDArray[np.bool_]:
    found = np.zeros(len(said), dtype=bool)
    for number in np.unique(relation):
        rows = np.flatnonzero(relation == number)
        found[rows] = _among(said[rows], world.candidates(int(number)))
    return found


def _among(said: Ids, words: Ids) -> NDArray[np.bool_]:
    """Whether each row [n, T] is one of `words` [w, T]."""
    known = {tuple(word) for word in words.tolist()}
    return np.array([tuple(row) in known for row in said.tolist()], dtype=bool)
