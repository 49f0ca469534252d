"""Worlds from folders that `unlearn export` or Behemoth wrote; whatever is wrong with one is told as a ConfigError."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pyarrow import ArrowException

from unlearn_cli.errors import ConfigError
from unlearn_cli.exchange import behemoth, dataset, description
from unlearn_cli.exchange.graph import Graph
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.facts import NONE, REFUSAL, FactTable
from unlearn_cli.worlds.language import Language
from unlearn_cli.worlds.vocabulary import Ids

Layout = Literal["dataset", "behemoth"]
MARKS: Mapping[str, str] = {"dataset": dataset.WORLD, "behemoth": behemoth.GRAPH}  # the file that shows the layout
_WRONG = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, ArrowException)


@dataclass(frozen=True, eq=False)
class Stored:
    """What a folder holds."""

    sha256: str  # of the files that were read
    facts: FactTable | None  # None: the graph alone says what there is
    document: Mapping[str, Any]  # the rest of the world, or the arguments of Behemoth's generator
    graph: Graph | None = None  # of a folder that Behemoth wrote

    def world(self, seed: int) -> WorldData:
        """The world that was exported; its sentences are drawn anew by `seed`."""
        assert self.facts is not None
        return description.restore(self.document, self.facts, seed)


def read(path: str, layout: Layout) -> Stored:
    """Read a folder, once."""
    folder = _Folder(Path(path).expanduser())
    folder.check(layout)
    return _dataset(folder) if layout == "dataset" else _behemoth(folder)


class _Folder:
    """Files, with a hash of all that were read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def check(self, layout: Layout) -> None:
        """Raise a ConfigError if the folder is not there or has another layout."""
        if not self.root.is_dir():
            above = self.root.parent
            beside = [path.name for path in above.iterdir() if path.is_dir()] if above.is_dir() else []
            hint = "".join(f"; did you mean {above / name}?" for name in get_close_matches(self.root.name, beside, n=1))
            raise ConfigError([f"world.path: {self.root} given; there is no such folder{hint}"])
        if not self.has(MARKS[layout]):
            hints = [f"; it looks like world.format={other}" for other, mark in MARKS.items() if self.has(mark)]
            hints += [f"; did you mean {self.root / layout}?"] if self.has(f"{layout}/{MARKS[layout]}") else []
            what = f"{self.root} has no {MARKS[layout]}, so it is no {layout} folder"
            raise ConfigError([f"world.path: {what}{''.join(hints[:1])}"])

    def has(self, name: str) -> bool:
        return (self.root / name).is_file()

    def content(self, name: str) -> bytes:
        try:
            content = (self.root / name).read_bytes()
        except OSError as error:
            raise ConfigError([f"world.path: {self.root / name}: {error.strerror or error}"]) from None
        self._digest.update(f"{name}:{len(content)};".encode() + content)
        return content

    def object(self, name: str) -> dict[str, Any]:
        with self.telling(name):
            found = json.loads(self.content(name))
            if not isinstance(found, dict):
                raise TypeError("no JSON object")
            return found

    @contextmanager
    def telling(self, name: str) -> Iterator[None]:
        """Turn what reading a file raises into a ConfigError."""
        try:
            yield
        except _WRONG as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ConfigError([f"world.path: {self.root / name} cannot be read: {what}"]) from None


def _dataset(folder: _Folder) -> Stored:
    document = _described(folder, dataset.WORLD)
    with folder.telling(dataset.FACTS):
        facts = dataset.read_facts(folder.content(dataset.FACTS))
    return _checked(folder, dataset.WORLD, dataset.FACTS, document, facts)


def _behemoth(folder: _Folder) -> Stored:
    with folder.telling(behemoth.GRAPH):
        graph = Graph.read(folder.root / behemoth.GRAPH, folder.content(behemoth.GRAPH).decode())
    if not folder.has(behemoth.OURS):
        arguments = folder.object(behemoth.ARGS) if folder.has(behemoth.ARGS) else {}
        return Stored(folder.sha256, None, arguments, graph)
    document = _described(folder, behemoth.OURS)
    with folder.telling(behemoth.OURS):
        relations = description.relations(document)
        reserved = np.zeros(relations.subjects, dtype=bool)
        reserved[document["holdout_subjects"]] = True
        nesting = description.nesting(document)
        facts = behemoth.with_columns(graph.table(relations, nesting, reserved), document["columns"])
    return _checked(folder, behemoth.OURS, behemoth.GRAPH, document, facts)


def _described(folder: _Folder, name: str) -> dict[str, Any]:
    document = folder.object(name)
    if document.get("layout") != description.LAYOUT:
        told = f"layout {document.get('layout')} given; this version reads {description.LAYOUT}"
        raise ConfigError([f"world.path: {folder.root / name}: {told}"])
    return document


def _checked(folder: _Folder, name: str, holder: str, document: Mapping[str, Any], facts: FactTable) -> Stored:
    """A ConfigError if the facts are not those that were exported, or the rest does not fit them."""
    found, told = facts.sha256(), document.get("facts_sha256")
    if found != told:
        path, other = folder.root / holder, folder.root / name
        raise ConfigError([f"world.path: {path} holds facts with the hash {found}; {other} says {told}"])
    stored = Stored(folder.sha256, facts, document)
    with folder.telling(name):
        _check_fit(stored.world(0))
    return stored


def _check_fit(world: WorldData) -> None:
    """Raise a ValueError unless facts, relations and vocabulary go together."""
    facts, relations, vocabulary = world.facts, world.relations, world.vocabulary
    objects = _at(relations.objects, facts.relation)
    limits: dict[str, tuple[Ids, int, Any]] = {
        "subject": (facts.subject, 0, relations.entities),
        "object": (facts.object, REFUSAL, objects),
        "alternative": (facts.alternative, NONE, objects),
        "question_object": (facts.question_object, REFUSAL, objects),
        "parents": (facts.parents, NONE, len(facts)),
        "exposure": (facts.exposure, 0, np.inf),
        "questions": (facts.questions, 0, np.inf),
    }
    for name, (values, least, end) in limits.items():
        if ((values < least) | (values >= end)).any():
            raise ValueError(f"a fact has {'an' if name[0] in 'aeo' else 'a'} {name} out of range")
    language = world.language
    assert isinstance(language, Language)  # `restore` makes no other
    if language.subjects != relations.subjects or (language.first != relations.first).any():
        raise ValueError("relations and language differ")
    needed = {"subject": relations.subjects, "relation": len(relations), "object": relations.words}
    for role, words in needed.items():
        if vocabulary[role].words < words:
            raise ValueError(f"{vocabulary[role].words} words for {words} {role}s")
    deck = world.deck()
    world.write(deck.deal(0, min(len(deck), 100)))  # an IndexError for templates with words that do not exist


def _at(sizes: Ids, relation: Ids) -> Ids:
    if ((relation < 0) | (relation >= len(sizes))).any():
        raise ValueError("a fact has a relation out of range")
    return sizes[relation]
