"""The probes of a run: which facts are asked, in which phrasings, and what counts as the answer.

Requested facts are asked in every phrasing; the others in a draw of the trained ones. Splits of what must not change
come as `/seen`, in the retain pool that methods may use, and `/unseen`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from unlearn_cli.evaluation import Direction, Floats, ProbeSet, Split
from unlearn_cli.neighbourhood import MUST_NOT_CHANGE, PARTS, neighbourhoods
from unlearn_cli.streams import generator
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.correlation import partners
from unlearn_cli.worlds.facts import NONE, REFUSAL
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.vocabulary import Ids

NO_NEW_OBJECT = "the request names no new object"
NO_QUESTIONS = "training in this world asks no questions"


@dataclass(frozen=True)
class ProbeSizes:
    """How much is asked; facts are drawn when there are more."""

    facts: int  # facts in each part of what must not change
    templates: int  # trained templates in which each of them is asked
    requested: int = 1000  # requested facts, each asked in every phrasing


def build_probes(world: WorldData, request: EditRequest, pool: Ids, sizes: ProbeSizes) -> ProbeSet:
    """Lay out every probe of a run and the splits over them."""
    plan = _Plan(world, request, pool, sizes)
    plan.requested()
    plan.unshown()
    plan.dependents()
    plan.untouched()
    plan.partners()
    plan.reserved()
    return plan.layout.finish()


@dataclass(frozen=True, eq=False)
class _Plan:
    """One method for each family of splits."""

    world: WorldData
    request: EditRequest
    pool: Ids
    sizes: ProbeSizes

    @cached_property
    def layout(self) -> _Layout:
        return _Layout(self.world, self.sizes)

    @cached_property
    def parts(self) -> dict[str, Ids]:
        return neighbourhoods(self.world, self.request)

    @property
    def changes(self) -> bool:
        """Whether the request names new objects."""
        return self.request.new_object is not None

    @cached_property
    def old(self) -> Ids:
        """What is to go, for requested facts; every other fact's object: [F]."""
        objects = self.world.facts.object.copy()
        objects[self.request.facts] = self.world.old_objects(self.request)
        return objects

    @cached_property
    def new(self) -> Ids:
        """Targets of requested facts; the old objects where the request names none: [F]."""
        objects = self.old.copy()
        if self.request.new_object is not None:
            objects[self.request.facts] = self.request.new_object
        return objects

    @cached_property
    def shown_in(self) -> Ids:
        """Templates in which the method is shown the requested facts."""
        return self.world.phrased(self.request.phrasing).language.asked

    @property
    def target(self) -> Direction:
        return "higher" if self.changes else "to_gold"

    def requested(self) -> None:
        """The requested facts, as the method is shown them and otherwise."""
        language, layout = self.world.language, self.layout
        facts = layout.some(self.parts["edited"], self.sizes.requested, "edited")
        rows = layout.ask_all(facts, self.shown_in)
        layout.add("forget", rows, self.old, "to_gold", posterior=None if self.changes else self._posterior(rows))
        layout.add("edited", rows, self.new, self.target, PARTS["edited"])
        self._requested_elsewhere(facts)
        reordered = layout.ask_all(facts if self._everywhere else facts[:0], language.phrasings.reordered)
        layout.add("edited_order", reordered, self.new, self.target, "no trained slot order is new to this grammar")
        questions = np.setdiff1d([language.question, language.new_question], self.shown_in)
        asked = layout.ask_all(facts if self.world.has_questions else facts[:0], questions[:1])
        layout.add("edited_qa", asked, self.new, self.target, NO_QUESTIONS)

    def _requested_elsewhere(self, facts: Ids) -> None:
        """Statements that the method is not shown: they change too, unless the request is about questions only."""
        language, layout = self.world.language, self.layout
        heldout = language.phrasings.heldout if self._everywhere else language.asked[:0]
        rows = layout.ask_all(facts, np.setdiff1d(np.concatenate([language.asked, heldout]), self.shown_in))
        none = rows[:0]
        stay = "statements stay: the request is about questions"
        no_more = "this world's grammar holds no template out"
        reason = no_more if self._everywhere else stay
        layout.add("edited_para", rows if self._everywhere else none, self.new, self.target, reason)
        layout.add("edited_stated", none if self._everywhere else rows, self.old, "higher", "statements change too")

    @property
    def _everywhere(self) -> bool:
        """Whether the request holds in every phrasing."""
        return self.request.op != "refuse_qa"

    def unshown(self) -> None:
        """Requested facts that the method is not shown."""
        facts, layout = self.parts["edited_heldout"], self.layout
        rows = layout.ask_some(facts, "edited_heldout")
        layout.add("edited_heldout", rows, self.new, self.target, PARTS["edited_heldout"])
        layout.add("forget_heldout", rows, self.old, "to_gold", PARTS["edited_heldout"])

    def dependents(self) -> None:
        """What follows from requested facts and changes when it is derived anew."""
        layout = self.layout
        facts = self.parts["dep_change"]
        if not self.changes:  # of some the user's files know only what they are to become
            facts = facts[self.world.facts.object[facts] != REFUSAL]
        rows = layout.ask_some(facts, "dep_change")
        rows = np.concatenate([rows, layout.ask_own(rows)])
        reason = PARTS["dep_change"] if self.world.derivation else "no fact of this world follows from another"
        closed = self.request.propagate == "closure"
        after = self.world.apply(self.request).facts.object
        layout.add("dep_change", rows, after, "higher" if self.changes or not closed else "to_gold", reason)
        if not self.changes:
            rows, reason = rows[:0], NO_NEW_OBJECT
        both = {"closure": self.world.closure(self.request), "isolate": self.world.isolated(self.request)}
        for name, world in both.items():
            direction: Direction = "higher" if name == self.request.propagate else "descriptive"
            layout.add(f"dep_change_{name}", rows, world.facts.object, direction, reason)
        self._dependents_by_name(rows, both["closure"].facts.object, reason)

    def _dependents_by_name(self, rows: Ids, derived: Ids, reason: str) -> None:
        """What follows, by what the user's data call it; every request of a schedule has the same splits."""
        names = self.world.relations.names
        if names is None:
            return
        follows = self.world.facts.parents[:, 0] != NONE
        called = np.array([_part(name) for name in names])[self.world.facts.relation]
        direction = self.layout.splits["dep_change_closure"].direction
        for name in np.unique(called[follows]).tolist():
            own = rows[called[self.layout.fact_of(rows)] == name]
            self.layout.add(f"dep_change_closure/{name}", own, derived, direction, reason)

    def untouched(self) -> None:
        """What must not change."""
        for name in MUST_NOT_CHANGE:
            facts = self.parts[name]
            seen = np.isin(facts, self.pool)
            for part, chosen in (("seen", facts[seen]), ("unseen", facts[~seen])):
                reason = PARTS[name]
                if len(facts):
                    reason = f"no such fact is {'in' if part == 'seen' else 'outside'} the retain pool"
                elif name == "same_value_new" and not self.changes:
                    reason = NO_NEW_OBJECT
                rows = self._ask_untouched(chosen, f"{name}/{part}")
                self.layout.add(f"{name}/{part}", rows, self.world.facts.object, "higher", reason)

    def _ask_untouched(self, facts: Ids, purpose: str) -> Ids:
        """Statements; with a request about questions, also the question of each fact that training asks about."""
        rows = self.layout.ask_some(facts, purpose)
        if self.request.phrasing == "statement":
            return rows
        asked = np.unique(self.layout.fact_of(rows))
        asked = asked[self.world.facts.questions[asked] > 0]
        return np.concatenate([rows, self.layout.ask_all(asked, np.array([self.world.language.question]))])

    def partners(self) -> None:
        """Whether the correlated partners of requested facts went along to the new objects."""
        layout, facts, world = self.layout, self.request.facts, self.world
        partner = partners(world.facts, world.correlation)[facts]
        went = world.facts.object.copy()
        kept = np.zeros(len(facts), dtype=bool)
        if self.request.new_object is not None:
            kept = (partner != NONE) & (self.request.new_object >= 0)
            went[partner[kept]] = self.request.new_object[kept]
        moved = went != world.facts.object  # who was there before does not count
        rows = np.concatenate([layout.splits[f"correlated_partner/{part}"].rows for part in ("seen", "unseen")])
        rows = rows[moved[layout.fact_of(rows)]]
        reason = PARTS["correlated_partner"] if self.changes else NO_NEW_OBJECT
        layout.add("correlated_partner_converted", rows, went, "descriptive", reason)

    def reserved(self) -> None:
        """Facts that no model has seen."""
        rows = self.layout.ask_some(self.parts["holdout"], "holdout")
        self.layout.add("holdout", rows, self.world.facts.object, "to_gold", PARTS["holdout"])

    def _posterior(self, rows: Ids) -> Floats | None:
        """What can still be said of each asked fact [n, O]; of real text nobody knows."""
        if self.world.choices is not None:
            return None
        facts, place = np.unique(self.layout.fact_of(rows), return_inverse=True)
        return self.world.apply(self.request).posterior(facts).probabilities[place]


def _part(name: str) -> str:
    """A name of the user's data as the last part of a split's, of which two mean what must not change."""
    plain = name.replace("/", "_") or "unnamed"
    return f"{plain}_" if plain in ("seen", "unseen") else plain


class _Layout:
    """Probes gathered so far; a probe's row is its place in the order of asking."""

    def __init__(self, world: WorldData, sizes: ProbeSizes) -> None:
        self.world, self.sizes = world, sizes
        self.facts: list[Ids] = [np.empty(0, dtype=np.int64)]
        self.templates: list[Ids] = [np.empty(0, dtype=np.int64)]
        self.splits: dict[str, Split] = {}

    def some(self, facts: Ids, most: int, purpose: str) -> Ids:
        """Draw `most` of the facts, all if there are fewer; sorted."""
        rng = generator(self.world.seed, "probe", purpose)
        return np.sort(rng.choice(facts, min(most, len(facts)), replace=False))

    def ask_all(self, facts: Ids, templates: Ids) -> Ids:
        """Ask each fact in each template; returns the rows."""
        return self._ask(np.repeat(facts, len(templates)), np.tile(templates, len(facts)))

    def ask_some(self, facts: Ids, purpose: str) -> Ids:
        """Ask a draw of the facts, each in a draw of the trained templates; returns the rows."""
        rng = generator(self.world.seed, "probe", purpose)
        facts = np.sort(rng.choice(facts, min(self.sizes.facts, len(facts)), replace=False))
        asked = self.world.language.asked
        places = rng.random((len(facts), len(asked))).argsort(1)[:, : self.sizes.templates]
        return self._ask(np.repeat(facts, places.shape[1]), asked[places.ravel()])

    def ask_own(self, rows: Ids) -> Ids:
        """Ask the facts of `rows` in what was written for each of them alone; returns the further rows."""
        facts = np.unique(self.fact_of(rows))
        subject, relation = self.world.facts.subject[facts].tolist(), self.world.facts.relation[facts].tolist()
        own = [self.world.language.written_for(s, r) for s, r in zip(subject, relation, strict=True)]
        return self._ask(np.repeat(facts, list(map(len, own))), np.concatenate([self.templates[0], *own]))

    def fact_of(self, rows: Ids) -> Ids:
        """The facts asked in `rows`."""
        return np.concatenate(self.facts)[rows]

    def add(
        self,
        name: str,
        rows: Ids,
        objects: Ids,
        direction: Direction,
        reason: str | None = None,
        posterior: Floats | None = None,
    ) -> None:
        """Name a split: its rows are scored on `objects` [F]; `reason` says why it is empty, if it is."""
        answer = objects[self.fact_of(rows)]
        self.splits[name] = Split(name, rows, answer, direction, None if len(rows) else reason, posterior)

    def finish(self) -> ProbeSet:
        """Freeze the layout."""
        fact, template = np.concatenate(self.facts), np.concatenate(self.templates)
        lengths = self.world.answer_lengths
        return ProbeSet(
            fact=fact,
            template=template,
            subject=self.world.facts.subject[fact],
            objects=self.world.objects,
            splits=self.splits,
            lengths=None if lengths is None else lengths[self.world.facts.relation[fact]],
        )

    def _ask(self, facts: Ids, templates: Ids) -> Ids:
        start = sum(map(len, self.facts))
        self.facts.append(facts)
        self.templates.append(templates)
        return np.arange(start, start + len(facts))
