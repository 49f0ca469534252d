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
from unlearn_cli.worlds.vocabulary import PADDING

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
        joined = {name: _stacked([arrays[name] for arrays in found]) for name in found[0]}
        relation = scene.world.facts.relation[scene.probes.fact[joined["rows"]]]
        return joined | {"kind": kinds(scene.world, relation, joined["tokens"], joined["reference"])}


def _stacked(arrays: list[Ids]) -> Ids:
    """One array of several, [n] or [n, m], the narrower ones padded."""
    width = max(array.shape[-1] for array in arrays)
    if arrays[0].ndim == 1:
        return np.concatenate(arrays)
    return np.concatenate([np.pad(a, ((0, 0), (0, width - a.shape[1])), constant_values=PADDING) for a in arrays])


def kinds(world: WorldData, relation: Ids, tokens: Ids, reference: Ids) -> Ids:
    """Classify answers [n, m] about relations [n] whose right answer begins `reference` [n, m]: place in KINDS [n].

    Token ids are those of `Tokens.told`.

    The refusal comes first, since a world's is a mark repeated. What spells no object at all is degenerate.
    """
    longest, refusal = world.refusal.shape[1], world.vocabulary.told(world.refusal_tokens)
    if tokens.shape[1] < longest:
        raise Unobservable(f"an answer has {longest} tokens; {tokens.shape[1]} were asked for")
    own, right = (_of_relation(world, relation, rows) for rows in (tokens, reference))
    ends = np.where(right, right, longest)[:, None]  # of what is right, whatever stands behind
    same = tokens[:, :longest] == reference[:, :longest]
    tests = {
        "refusal": (tokens[:, : len(refusal)] == refusal).all(axis=1),
        "correct": (same | (np.arange(longest) >= ends)).all(axis=1) & ((own == right) | (right == 0)),
        "degenerate": _repeats(tokens) | (_of_any(world, tokens) == 0),
        "other_valid": own > 0,
    }
    return np.select(list(tests.values()), range(len(tests)), default=KINDS.index("wrong_type"))


def _repeats(tokens: Ids) -> NDArray[np.bool_]:
    """Whether a token stands REPEATED times in a row [n]; padding does not count."""
    found = np.zeros(len(tokens), dtype=bool)
    for start in range(tokens.shape[1] - REPEATED + 1):
        run = tokens[:, start : start + REPEATED]
        found |= (run == run[:, :1]).all(axis=1) & (run[:, 0] != PADDING)
    return found


def _of_any(world: WorldData, said: Ids) -> Ids:
    """How many tokens the longest object of any relation has with which tokens [n, m] begin, 0 for none: [n]."""
    every = [word for number in range(len(world.relations)) for word in _words(world, number)]
    return _begun(said, every)


def _of_relation(world: WorldData, relation: Ids, said: Ids) -> Ids:
    """The same of each row's relation [n]."""
    found = np.zeros(len(said), dtype=np.int64)
    for number in np.unique(relation):
        rows = np.flatnonzero(relation == number)
        found[rows] = _begun(said[rows], _words(world, int(number)))
    return found


def _words(world: WorldData, relation: int) -> list[tuple[int, ...]]:
    """The tokens of a relation's objects."""
    tokens, lengths = world.vocabulary.told(world.candidates(relation)), world.candidate_lengths(relation)
    ends = np.full(len(tokens), tokens.shape[1]) if lengths is None else lengths
    return [tuple(word[:end]) for word, end in zip(tokens.tolist(), ends.tolist(), strict=True)]


def _begun(said: Ids, words: list[tuple[int, ...]]) -> Ids:
    known, sizes = set(words), sorted({len(word) for word in words}, reverse=True)
    found = [next((size for size in sizes if tuple(row[:size]) in known), 0) for row in said.tolist()]
    return np.array(found, dtype=np.int64)
