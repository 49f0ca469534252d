"""The runs of a table sorted into panels, rows and seeds; missing and failed ones keep their place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean

from unlearn_cli.analysis.exchanged import Bench
from unlearn_cli.analysis.runs import Run, sorted_runs
from unlearn_cli.analysis.table_spec import TableSpec
from unlearn_cli.errors import UnlearnError
from unlearn_cli.evaluation import Floats
from unlearn_cli.sweep.record import Outcome

Place = tuple[str, ...]  # values of the keys of a panel or a row


@dataclass(frozen=True)
class Member:
    """One run as planned, with what became of it."""

    panel: Place
    row: Place
    tuned: str  # value of the key that rows choose; empty without one
    seed: int
    outcome: Outcome
    run: Run | None  # None unless it ended well

    def value(self, metrics: Sequence[str], role: str = "value") -> float | None:
        """A metric, or the product of several."""
        product = 1.0
        for key in metrics:
            found = self.run.value(key, role) if self.run else None
            if found is None:
                return None
            product *= found
        return product


@dataclass(frozen=True)
class Cell:
    """A row of a panel: one run for each seed, of the values that the row has chosen for itself."""

    panel: Place
    row: Place
    chosen: Mapping[int, Member]  # by seed
    planned: int  # seeds
    faults: Sequence[Member]  # runs that did not end well, and are missing here

    def values(self, metrics: Sequence[str], role: str = "value") -> dict[int, float]:
        """By seed, of the seeds that have one."""
        found = {seed: member.value(metrics, role) for seed, member in self.chosen.items()}
        return {seed: value for seed, value in found.items() if value is not None}


@dataclass(frozen=True)
class Grid:
    """All runs of a table."""

    spec: TableSpec
    members: Sequence[Member]
    refused: Sequence[Outcome]  # settings that contradict themselves: no cells of the table

    @cached_property
    def benches(self) -> Mapping[tuple[Place, int], Bench]:
        """Panel and seed: runs that were asked the same."""
        places = dict.fromkeys((member.panel, member.seed) for member in self.members)
        return {(panel, seed): Bench(f"{' '.join(panel)} {seed}") for panel, seed in places}

    @cached_property
    def panels(self) -> list[Place]:
        """In the order of the sweep."""
        return list(dict.fromkeys(member.panel for member in self.members))

    @cached_property
    def cells(self) -> Mapping[tuple[Place, Place], Cell]:
        """Every row of every panel."""
        found: dict[tuple[Place, Place], list[Member]] = defaultdict(list)
        for member in self.members:
            found[member.panel, member.row].append(member)
        return {key: self._cell(*key, members) for key, members in found.items()}

    def differences(self, one: Member, two: Member, metrics: Sequence[str]) -> Floats | None:
        """Of two runs of one panel and seed, as `Bench.differences`."""
        if one.run is None or two.run is None:
            return None
        return self.benches[one.panel, one.seed].differences(one.run, two.run, metrics)

    def settings(self) -> Mapping[tuple[Place, Place, str], Mapping[int, Member]]:
        """Runs by panel, row and the value of the tuned key, then by seed."""
        found: dict[tuple[Place, Place, str], dict[int, Member]] = defaultdict(dict)
        for member in self.members:
            if member.run is not None:
                found[member.panel, member.row, member.tuned][member.seed] = member
        return found

    def _cell(self, panel: Place, row: Place, members: Sequence[Member]) -> Cell:
        seeds = {member.seed for member in members}
        good = [member for member in members if member.run is not None]
        faults = [member for member in members if member.run is None]
        return Cell(panel, row, {seed: self._choose(good, seed) for seed in _seeds(good)}, len(seeds), faults)

    def _choose(self, members: Sequence[Member], seed: int) -> Member:
        """The seed's run of the value that did best on the other seeds; on its own where there is no other."""
        mine = [member for member in members if member.seed == seed]
        others = [member for member in members if member.seed != seed] or mine
        if len(mine) == 1 or self.spec.rule is None:
            return mine[0]
        metrics, scores = self.spec.metrics(self.spec.rule.measure), defaultdict[str, list[float]](list)
        for other in others:
            value = other.value(metrics)
            scores[other.tuned] += [] if value is None else [value]
        return max(mine, key=lambda member: mean(scores[member.tuned] or [float("-inf")]))


def grid_of(spec: TableSpec, outcomes: Sequence[Outcome]) -> Grid:
    """Sort the runs of all sweeps of a table; UnlearnError if two of them have one place."""
    members = _in_order([_member(spec, item) for item in outcomes if item.state != "refused"])
    places = [(member.panel, member.row, member.tuned, member.seed) for member in members]
    twice = sorted({place for place in places if places.count(place) > 1}) if len(set(places)) < len(places) else []
    if twice:
        told = "; ".join(f"{' '.join((*panel, *row, tuned))} seed {seed}" for panel, row, tuned, seed in twice)
        raise UnlearnError(f"several runs of one cell, so that `panels`, `rows` and `choose` miss a swept key: {told}")
    return Grid(spec, members, [item for item in outcomes if item.state == "refused"])


def _in_order(members: Sequence[Member]) -> list[Member]:
    """By panel and row, each key's values as they first come, whichever of the table's sweeps they are in."""
    places = [(*member.panel, *member.row) for member in members]
    first = [list(dict.fromkeys(values)) for values in zip(*places, strict=True)]
    order = {place: [known.index(value) for known, value in zip(first, place, strict=True)] for place in set(places)}
    return sorted(members, key=lambda member: order[*member.panel, *member.row])


def _member(spec: TableSpec, outcome: Outcome) -> Member:
    words = dict(word.lstrip("+").split("=", 1) for word in outcome.entry.overrides if "=" in word)
    absent = [key for key in [*spec.keys, *([spec.choose] if spec.choose else [])] if key not in words]
    if absent:
        raise UnlearnError(f"table: {', '.join(absent)} named in `panels`, `rows` or `choose`, but not swept")
    runs, _ = sorted_runs([outcome])
    return Member(
        panel=tuple(words[key] for key in spec.panels),
        row=tuple(words[key] for key in spec.rows),
        tuned=words[spec.choose] if spec.choose else "",
        seed=int(words.get("seed", 0)),
        outcome=outcome,
        run=runs[0] if runs else None,
    )


def _seeds(members: Sequence[Member]) -> list[int]:
    return sorted({member.seed for member in members})
