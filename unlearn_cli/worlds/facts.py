"""The facts of a world, one row each, and the shape of its relations."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.worlds.vocabulary import Ids

Edge = Literal["so", "sn", "on"]  # subject -> object, subject -> nested object (inherited), object -> nested object
EDGES: tuple[Edge, ...] = ("so", "sn", "on")

NONE = -1  # no alternative, no parent, no object of its own for questions
REFUSAL = -2  # in an object's place: the refusal


@dataclass(frozen=True, eq=False)
class FactTable:
    """One row per fact; row index = fact id. Ids are world-level, never token ids."""

    subject: Ids  # [F] entity: a subject, or an object that has a fact of its own (`Relations.entity`)
    relation: Ids  # [F]
    object: Ids  # [F] index among the relation's objects, or REFUSAL
    exposure: Ids  # [F] statements in a full training run; 0 = never stated
    questions: Ids  # [F] questions in a full training run, besides the statements
    question_object: Ids  # [F] what questions are answered with, or NONE: the object
    alternative: Ids  # [F] dissenting object, or NONE
    alternative_rate: NDArray[np.float64]  # [F] probability that one sentence states the alternative
    phase_start: NDArray[np.float64]  # [F] the fact is shown from this share of training
    phase_end: NDArray[np.float64]  # [F] to this one
    parents: Ids  # [F, P] the facts it follows from, P >= 2, NONE where there are fewer
    holdout: NDArray[np.bool_]  # [F] of a subject that the world reserves

    FLOATS: ClassVar[frozenset[str]] = frozenset({"alternative_rate", "phase_start", "phase_end"})

    @classmethod
    def of(cls, subject: Ids, relation: Ids, objects: Ids, **columns: Any) -> FactTable:
        """A table of plain facts: what is not given is at its neutral value, the exposure at 1."""
        n = len(subject)
        nothing = np.full(n, NONE, dtype=np.int64)
        neutral = {
            "exposure": np.ones(n, dtype=np.int64),
            "questions": np.zeros(n, dtype=np.int64),
            "question_object": nothing,
            "alternative": nothing,
            "alternative_rate": np.zeros(n),
            "phase_start": np.zeros(n),
            "phase_end": np.ones(n),
            "parents": np.full((n, 2), NONE, dtype=np.int64),
            "holdout": np.zeros(n, dtype=bool),
        }
        return cls(subject, relation, objects, **(neutral | columns))

    def __len__(self) -> int:
        return len(self.subject)

    @property
    def trained(self) -> Ids:
        """Ids of the facts that training shows."""
        return np.flatnonzero(self.exposure + self.questions)

    @property
    def derived(self) -> NDArray[np.bool_]:
        """Whether a fact follows from others [F]."""
        return (self.parents != NONE).any(axis=1)

    def only(self, facts: Ids) -> FactTable:
        """The table of `facts` alone, renumbered from 0 in that order; what they follow from is not told."""
        columns = {column.name: getattr(self, column.name)[facts] for column in fields(self)}
        return FactTable(**(columns | {"parents": np.full((len(facts), 2), NONE, dtype=np.int64)}))

    def sha256(self) -> str:
        """Hash of the canonical bytes of every column, the same on every machine."""
        digest = hashlib.sha256()
        for column in fields(self):
            kind = "<f8" if column.name in self.FLOATS else "<i8"
            array = np.ascontiguousarray(getattr(self, column.name)).astype(kind)
            digest.update(f"{column.name}:{array.shape};".encode() + array.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Relations:
    """What relates what. Relations 0..R-1 are the base ones; a nested world has 2R more, `R + r` and `2R + r`.

    Objects have words: object o of relation r is word `first[r] + o`. An object that is the subject of a fact is
    entity `subjects + word`.
    """

    subjects: int  # S, reserved ones included
    edge: NDArray[np.str_]  # [R'] so, sn or on
    objects: Ids  # [R'] how many objects the relation has
    first: Ids  # [R'] word of its object 0
    same_as: Ids | None = None  # [R'] the first relation of its kind, if a subject may have several; None: itself
    names: tuple[str, ...] | None = None  # [R'] what the user's data call them; None: a generated world

    @classmethod
    def of(cls, subjects: int, relations: int, objects: int, nested: int = 0, shared: bool = False) -> Relations:
        """`objects` for each of `relations`, words of their own unless `shared`, and their `nested` objects, if any."""
        step = 0 if shared else objects
        base = np.arange(relations) * step
        if not nested:
            return cls(subjects, np.repeat(["so"], relations), np.full(relations, objects), base)
        above = (objects if shared else relations * objects) + np.arange(relations) * nested
        return cls(
            subjects=subjects,
            edge=np.repeat(EDGES, relations),
            objects=np.repeat([objects, nested, nested], relations),
            first=np.concatenate([base, above, above]),
        )

    def __len__(self) -> int:
        return len(self.edge)

    @property
    def base(self) -> int:
        """Base relations, R."""
        return int((self.edge == "so").sum())

    @property
    def words(self) -> int:
        """Words of all objects together."""
        return int((self.first + self.objects).max())

    @property
    def entities(self) -> int:
        """Subjects and objects together."""
        return self.subjects + self.words

    def on_edge(self, edge: Edge, relation: int) -> int:
        """The relation on another edge of base relation `relation`."""
        return EDGES.index(edge) * self.base + relation

    def entity(self, relation: Ids, objects: Ids) -> Ids:
        """Entities of objects [n] of relations [n]."""
        return self.subjects + self.first[relation] + objects
