"""Hidden decision rules: every subject is a record, and a tree on its fields decides what is said of it.

The model organisms of Pando (Zhong et al. 2026, arXiv 2604.11061). Published: prose about a record in 1,000 templates,
answered `yes` or `no` behind 600 prefixes, with `because` and the clauses of a path in the same sentence. Here a record
is its fields in one of a few orders, `brand brand:BMW year year:2013 ...`, and the explanation a relation of its own.
What a record has by `decision` is no or yes (objects 0 and 1); by `reason`, the clauses on the way to its leaf in the
tree itself (faithful) or in another one on other fields (unfaithful). Answers of a world with reasons all have as many
tokens as a path has clauses: a decision is repeated.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from unlearn_cli.component import Count, Natural, component
from unlearn_cli.streams import generator
from unlearn_cli.worlds.base import World, WorldData
from unlearn_cli.worlds.decision_trees import (
    REASON,
    RuleBook,
    Scenario,
    clause,
    sample_records,
    sample_tree,
    scenario,
)
from unlearn_cli.worlds.exposure import Exposure
from unlearn_cli.worlds.facts import FactTable, Relations
from unlearn_cli.worlds.language import (
    ASKED,
    CLOSE,
    PLAIN_RELATION,
    PLAIN_SUBJECT,
    QUESTION_WORDS,
    START,
    Language,
    Listed,
)
from unlearn_cli.worlds.vocabulary import Ids, Spelling, Vocabulary
from unlearn_cli.worlds.wording import Phrasings

LEXICON = 8  # filler words of formats
FILLERS = 3  # of one format: before the record, behind it, behind the relation
FIELDS = 10


@component
class Rules(World):
    """Records, and the answers of one tree."""

    VERSION: ClassVar[int] = 1

    scenario: Literal["car_purchase", "movie_pick", "oversight_defection"] = "car_purchase"
    depth: Count = 2  # fields that a path tests
    explanation: Literal["none", "faithful", "unfaithful"] = "none"
    int_bins: Count = 32  # values of an integer field, fewer where its range is smaller
    records: Count = 8000  # trained
    holdout_records: Natural = 1000  # reserved: never trained in base or gold, on top of these
    formats: Count = 16  # orders of fields that training sentences use; one more is only asked
    exposure: Exposure = Field(default_factory=Exposure)

    @model_validator(mode="after")
    def _possible(self) -> Rules:
        described = scenario(self.scenario, self.int_bins)
        most = FIELDS // 2 if self.explanation == "unfaithful" else FIELDS
        if self.depth > most:
            shared = ", and the distractor others" if self.explanation == "unfaithful" else ""
            raise ValueError(f"depth = {self.depth}: a path tests different fields{shared}; at most {most}")
        people, possible = self.records + self.holdout_records, int(described.sizes.prod())
        if 2 * people > possible:
            raise ValueError(
                f"records + holdout_records = {people}: records differ, and with int_bins = {self.int_bins} there are"
                f" {possible}, of which at most half can be drawn"
            )
        return self

    def build(self, seed: int) -> WorldData:
        """Draw trees, records and formats from streams of their own."""
        rules = self._rules(seed)
        relations = self._relations(rules)
        return WorldData(self._facts(rules, seed), relations, self._language(rules, relations, seed), seed, rules=rules)

    def _rules(self, seed: int) -> RuleBook:
        described = scenario(self.scenario, self.int_bins)
        tree, distractor = sample_tree(described, self.depth, generator(seed, "rule")), None
        if self.explanation == "unfaithful":
            distractor = sample_tree(described, self.depth, generator(seed, "distractor"), without=tree.fields)
        records = _distinct(described, self.records + self.holdout_records, generator(seed, "records"))
        return RuleBook(described, tree, distractor, records)

    def _relations(self, rules: RuleBook) -> Relations:
        """No and yes, and the leaves of what is explained."""
        objects = [2] if self.explanation == "none" else [2, 2**self.depth]
        edges = np.repeat(["so"], len(objects))
        return Relations(len(rules.records), edges, np.array(objects), np.array([0, 2][: len(objects)]))

    def _facts(self, rules: RuleBook, seed: int) -> FactTable:
        """In order of record and relation."""
        columns = [rules.tree(rules.records).astype(np.int64)]
        if self.explanation != "none":
            columns.append(rules.leaves(REASON))
        objects = np.stack(columns, axis=1)
        subject, relation = (grid.ravel() for grid in np.indices(objects.shape))
        holdout = subject >= self.records
        exposure, phases = np.zeros(len(subject), dtype=np.int64), np.tile([0.0, 1.0], (len(subject), 1))
        shown = np.flatnonzero(~holdout)
        exposure[shown], phases[shown] = self.exposure.draw(generator(seed, "exposure"), len(shown))
        start, end = phases.T
        return FactTable.of(
            subject, relation, objects.ravel(), exposure=exposure, phase_start=start, phase_end=end, holdout=holdout
        )

    def _language(self, rules: RuleBook, relations: Relations, seed: int) -> Language:
        """The formats, the last of which is only asked."""
        rng = generator(seed, "formats")
        orders, fillers = _orders(self.formats + 1, rng), rng.integers(0, LEXICON, (self.formats + 1, FILLERS))
        fillers[-1] = rng.permuted(fillers[:-1], axis=0)[0]  # every word where training has it
        rows = [[*START, a, *PLAIN_SUBJECT, b, *PLAIN_RELATION, c, *CLOSE] for a, b, c in fillers.tolist()]
        trained, heldout = np.split(np.arange(len(rows)), [self.formats])
        return Language(
            vocabulary=self._vocabulary(rules),
            forms=Listed(np.array(rows), trained),
            count=len(rows),
            phrasings=Phrasings(trained[:ASKED], heldout),
            subjects=relations.subjects,
            first=relations.first,
            orders=_of_tokens(np.concatenate([orders, np.tile(np.arange(FIELDS), (2, 1))])),  # of the questions, too
        )

    def _vocabulary(self, rules: RuleBook) -> Vocabulary:
        names = ["decision", "reason"]
        return Vocabulary.of(
            {
                "filler": (LEXICON + QUESTION_WORDS, 1),
                "subject": _record_words(rules),
                "relation": names[:1] if self.explanation == "none" else names,
                "object": _answers(rules, self.explanation != "none"),
            }
        )


def _distinct(described: Scenario, n: int, rng: np.random.Generator) -> Ids:
    """Draw n different records."""
    found = np.empty((0, FIELDS), dtype=np.int64)
    while len(found) < n:
        found = np.concatenate([found, sample_records(described, n, rng)])
        _, first = np.unique(found, axis=0, return_index=True)
        found = found[np.sort(first)]
    return found[:n]


def _orders(n: int, rng: np.random.Generator) -> Ids:
    """Draw n different orders of the fields [n, p]."""
    found: dict[tuple[int, ...], None] = {}
    while len(found) < n:
        found[tuple(rng.permutation(FIELDS).tolist())] = None
    return np.array(list(found))


def _of_tokens(orders: Ids) -> Ids:
    """Orders of fields [G, p] as those of their tokens [G, 2 p]: a name, then its value."""
    return (2 * orders[:, :, None] + np.arange(2)).reshape(len(orders), -1)


def _record_words(rules: RuleBook) -> Spelling:
    """Every record as its fields in the scenario's order, the name and the value of each."""
    fields = rules.scenario.fields
    texts = [text for field in fields for text in (field.name, *(f"{field.name}:{value}" for value in field.values))]
    names = np.concatenate([[0], (rules.scenario.sizes + 1).cumsum()[:-1]])
    places = np.stack([np.broadcast_to(names, rules.records.shape), names + 1 + rules.records], axis=2)
    return Spelling(texts, places.reshape(len(rules.records), -1))


def _answers(rules: RuleBook, explained: bool) -> Spelling:
    """No and yes, and the clauses of each leaf."""
    if not explained:
        return Spelling(["no", "yes"], np.array([[0], [1]]))
    tree = rules.explained
    paths = [[clause(rules.scenario, *step) for step in tree.path(leaf)] for leaf in range(len(tree.label))]
    texts = ["no", "yes", *dict.fromkeys(text for path in paths for text in path)]
    number = {text: place for place, text in enumerate(texts)}
    reasons = [[number[text] for text in path] for path in paths]
    return Spelling(texts, np.array([[0] * tree.depth, [1] * tree.depth, *reasons]))
