"""What every world is: a seeded recipe for facts, a language to state them in, and the truth after an edit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np

from unlearn_cli.streams import derive
from unlearn_cli.worlds import counterfactual
from unlearn_cli.worlds.correlation import Correlation
from unlearn_cli.worlds.counterfactual import Consequences, Derivation, Nesting
from unlearn_cli.worlds.decision_trees import RuleBook
from unlearn_cli.worlds.deck import Cards, Deck
from unlearn_cli.worlds.facts import NONE, REFUSAL, FactTable, Relations
from unlearn_cli.worlds.language import Sentences
from unlearn_cli.worlds.posterior import Posterior, posterior
from unlearn_cli.worlds.request import EditRequest, Phrasing
from unlearn_cli.worlds.vocabulary import Ids
from unlearn_cli.worlds.wording import Wording


@dataclass(frozen=True, eq=False)
class Given:
    """A request that comes with the facts: what the user's files ask for."""

    facts: Ids  # [n] fact ids, sorted
    new_object: Ids | None = None  # [n] targets; None where the files name none, or none for some
    untargeted: tuple[str, ...] = ()  # files and rows without a target


@dataclass(frozen=True, eq=False)
class WorldData:
    """A built world. Immutable: `apply` returns another one."""

    facts: FactTable
    relations: Relations
    language: Wording
    seed: int
    correlation: Correlation | None = None
    nesting: Nesting | None = None
    rules: RuleBook | None = None  # what decides, where the subjects are records
    given: Given | None = None
    consequences: Consequences | None = None  # what the user's files say that follows from the request
    choices: Ids | None = None  # [F, K] objects that compete for each fact, or NONE; None: all of its relation
    notes: tuple[str, ...] = ()  # what a reader of results must know about the data
    reworded: Ids | None = None  # [F] the right answer in other words, which competes with nothing, or NONE

    @property
    def vocabulary(self) -> Any:
        """Words and tokens, a `wording.Tokens`: of generated worlds a `Vocabulary`, with roles."""
        return self.language.vocabulary

    @cached_property
    def objects(self) -> int:
        """Most objects that a relation has, O."""
        return int(self.relations.objects.max())

    def kinds(self, facts: Ids) -> Ids:
        """What facts [n] say of their subjects: the first relation of each one's kind."""
        relation, same_as = self.facts.relation[facts], self.relations.same_as
        return relation if same_as is None else same_as[relation]

    @property
    def max_length(self) -> int:
        """Tokens of the longest sentence."""
        return self.language.longest

    @property
    def has_questions(self) -> bool:
        """Whether training asks questions."""
        return bool(self.facts.questions.any())

    @property
    def has_phases(self) -> bool:
        """Whether some facts are shown in a part of training only."""
        return bool((self.facts.phase_start > 0).any() or (self.facts.phase_end < 1).any())

    def sentences(self, facts: Ids, templates: Ids, objects: Ids | None = None) -> Sentences:
        """State or ask facts [n] in templates [n], with the facts' own objects or others [n] in their place."""
        table = self.facts
        if objects is None:
            objects = self.stated(facts, templates)
        return self.language.write(templates, table.subject[facts], table.relation[facts], objects)

    def stated(self, facts: Ids, templates: Ids) -> Ids:
        """The objects [n] that facts have in templates [n]: a question may be answered otherwise than a statement."""
        table = self.facts
        asked = self.language.is_question(templates) & (table.question_object[facts] != NONE)
        return np.where(asked, table.question_object[facts], table.object[facts])

    def write(self, cards: Cards) -> Sentences:
        """The sentences of cards, dissenting ones included."""
        objects = self.stated(cards.facts, cards.templates)
        objects = np.where(cards.dissent, self.facts.alternative[cards.facts], objects)
        return self.sentences(cards.facts, cards.templates, objects)

    def candidates(self, relation: int) -> Ids:
        """Token ids [O_r, T] of every object that `relation` can have, PADDING behind shorter ones."""
        objects = np.arange(self.relations.objects[relation])
        return self.language.answers(np.full(len(objects), relation), objects)

    def candidate_lengths(self, relation: int) -> Ids | None:
        """How many tokens [O_r] each object of `relation` has; None: T."""
        objects = np.arange(self.relations.objects[relation])
        return self.language.answer_lengths(np.full(len(objects), relation), objects)

    @cached_property
    def answer_lengths(self) -> Ids | None:
        """How many tokens each object of a relation has and, last, the refusal [R', O + 1]; None: all as many."""
        if self.refusal_length is None:
            return None
        out = np.tile(self.refusal_length, (len(self.relations), self.objects + 1))
        for relation, row in enumerate(out):
            lengths = self.candidate_lengths(relation)
            assert lengths is not None
            row[: len(lengths)] = lengths
        return out

    @property
    def refusal(self) -> Ids:
        """Token ids [1, T] of the refusal, PADDING behind a shorter one."""
        return self.language.answers(np.zeros(1, dtype=np.int64), np.array([REFUSAL]))

    @property
    def refusal_length(self) -> Ids | None:
        """How many tokens [1] the refusal has; None: T."""
        return self.language.answer_lengths(np.zeros(1, dtype=np.int64), np.array([REFUSAL]))

    @property
    def refusal_tokens(self) -> Ids:
        """The refusal's own tokens [t]."""
        length = self.refusal_length
        return self.refusal[0, : None if length is None else int(length[0])]

    def deck(self, *purpose: str | int) -> Deck:
        """The exact deck of the trained facts' sentences, shuffled by the stream `purpose`."""
        return Deck(self.facts, self.language, derive(self.seed, "deck", *purpose))

    def old_objects(self, request: EditRequest) -> Ids:
        """What is to go, for each requested fact [n]."""
        return self.facts.object[request.facts] if request.old_object is None else request.old_object

    def apply(self, request: EditRequest) -> WorldData:
        """Return the counterfactual world: forgotten facts are never shown, changed ones hold their new object."""
        return replace(self, facts=counterfactual.apply(self.facts, self.derivation, request))

    def closure(self, request: EditRequest) -> WorldData:
        """`apply` with every dependent following its parents, whatever the request says of them."""
        return self.apply(replace(request, propagate="closure"))

    def isolated(self, request: EditRequest) -> WorldData:
        """`apply` with every dependent keeping its value."""
        return self.apply(replace(request, propagate="isolate"))

    def only(self, facts: Ids, objects: Ids | None = None) -> WorldData:
        """The same language over `facts` alone: what a method is handed, so that it cannot see another fact.

        `objects` [n] replace the facts' own.
        """
        table = self.facts.only(facts)
        if objects is not None:
            table = replace(table, object=objects)
        choices = None if self.choices is None else self.choices[facts]
        reworded = None if self.reworded is None else self.reworded[facts]
        nothing = dict.fromkeys(("correlation", "nesting", "rules", "given", "consequences"))
        return replace(self, facts=table, choices=choices, reworded=reworded, **nothing)  # type: ignore[arg-type]

    def phrased(self, phrasing: Phrasing) -> WorldData:
        """The same world, its facts asked and edits written as statements or as questions."""
        language = self.language
        templates = {"question": [language.question], "new_question": [language.new_question]}
        if phrasing not in templates:
            return self
        return replace(self, language=language.phrased(np.array(templates[phrasing])))

    def posterior(self, facts: Ids) -> Posterior:
        """P(object | everything that this world trains) for each of `facts`."""
        return posterior(self, facts)

    @property
    def derivation(self) -> Derivation | None:
        """How facts follow from others; None: none does."""
        if self.consequences is not None:
            return self.consequences.derive
        if self.nesting is not None:
            return partial(counterfactual.derive, relations=self.relations, nesting=self.nesting)
        return None

    def derive(self) -> FactTable:
        """The facts with every derived one made anew from its parents."""
        if self.derivation is None:
            return self.facts
        objects, parents = self.derivation(self.facts)
        return replace(self.facts, object=objects, parents=parents)


class World(ABC):
    """A recipe for facts. Same fields and seed, same facts, on any machine."""

    VERSION: ClassVar[int]  # raise it when `build` would yield other facts

    @abstractmethod
    def build(self, seed: int) -> WorldData:
        """Draw the world; a second at most, whatever its size."""

    def source(self) -> dict[str, str]:
        """What the files hold that fields name: in a digest these stand in the fields' place, so that a file may move.

        field -> `sha256:...` of the file's bytes; empty for a world that reads none.
        """
        return {}
