"""Published claims on trial: comparisons of settings that differ in what a claim names, counted by its rule.

In each comparison the first setting is better if the measure is higher by the margin, on every seed the sign is the
same, and the paired permutation test, corrected by Holm over the claim, is below alpha; worse is the mirror image. A
claim holds if the share of comparisons in which the first is better reaches the claim's; it fails if that share could
not be reached even if every undecided comparison came out for it; else it is undecided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from unlearn_cli.analysis.exchanged import p_value
from unlearn_cli.analysis.grid import Grid, Member, Place
from unlearn_cli.analysis.paired import holm
from unlearn_cli.analysis.table_spec import Claim, Rule, matches

Outcome = Literal["better", "worse", "undecided"]
Verdict = Literal["holds", "fails", "undecided", "no comparison"]
Setting = Mapping[int, Member]  # by seed
Key = tuple[Place, Place, str]  # panel, row, and the tuned key's value, empty where each row has its own


@dataclass(frozen=True)
class Compared:
    """Two settings on the seeds that both have."""

    panel: Place
    first: str
    than: str
    differences: list[float]  # of the measure, first - than, one for each seed
    p: float  # as it is
    adjusted: float  # after Holm's correction
    outcome: Outcome


@dataclass(frozen=True)
class Trial:
    """A claim, judged."""

    name: str
    claim: Claim
    at: str  # how the tuned key was set
    compared: list[Compared]

    @property
    def counts(self) -> Counter[str]:
        """How often the first was better, worse, and neither."""
        return Counter(item.outcome for item in self.compared)

    @property
    def verdict(self) -> Verdict:
        """By the rule above."""
        counts, needed = self.counts, self.claim.share * len(self.compared)
        if not self.compared:
            return "no comparison"
        if counts["better"] >= needed:
            return "holds"
        return "fails" if counts["better"] + counts["undecided"] < needed else "undecided"


def trials(grid: Grid) -> list[Trial]:
    """Every claim: with each row at the value it chose, and, where there is one, at one value for both."""
    found = []
    for name, claim in grid.spec.claims.items():
        chosen = {(*key, ""): cell.chosen for key, cell in grid.cells.items()}
        found.append(Trial(name, claim, "each tuned" if grid.spec.choose else "", _compare(grid, claim, chosen)))
        if grid.spec.choose:
            shared = f"same {grid.spec.choose.rpartition('.')[2]}"
            found.append(Trial(name, claim, shared, _compare(grid, claim, grid.settings())))
    return found


def _compare(grid: Grid, claim: Claim, settings: Mapping[Key, Setting]) -> list[Compared]:
    """Every pair that the claim names, the other keys being equal."""
    rule = grid.spec.rule
    assert rule is not None  # `TableSpec` demands it of a table with claims
    values = {key: dict(zip(grid.spec.keys, (*key[0], *key[1]), strict=True)) for key in settings}
    equal = [key for key in grid.spec.keys if key not in claim.first.keys() | claim.than.keys()]
    pairs = [
        pair
        for one in settings
        for two in settings
        if matches(values[one], claim.first) and matches(values[two], claim.than) and one[2] == two[2]
        if all(values[one][key] == values[two][key] for key in equal)
        if (pair := _pair(grid, rule, (one, settings[one]), (two, settings[two]))) is not None
    ]
    adjusted = holm([pair.p for pair in pairs]) if pairs else np.zeros(0)
    return [
        replace(pair, adjusted=float(p), outcome=outcome(pair.differences, float(p), rule))
        for pair, p in zip(pairs, adjusted, strict=True)
    ]


def _pair(grid: Grid, rule: Rule, first: tuple[Key, Setting], than: tuple[Key, Setting]) -> Compared | None:
    """Two settings, not corrected yet; None where they share no seed with items."""
    metrics, differences, drawn = grid.spec.metrics(rule.measure), [], []
    for seed in sorted(first[1].keys() & than[1].keys()):
        found = grid.differences(first[1][seed], than[1][seed], metrics)
        if found is not None:
            differences.append(float(found[0]))
            drawn.append(found)
    if not drawn:
        return None
    one_name, two_name = (" ".join(filter(None, (*key[1], key[2]))) for key, _ in (first, than))
    p = p_value(drawn)
    return Compared(first[0][0], one_name, two_name, differences, p, p, "undecided")


def outcome(differences: Sequence[float], adjusted: float, rule: Rule) -> Outcome:
    """What one comparison says."""
    mean = float(np.mean(differences))
    if adjusted >= rule.alpha or abs(mean) < rule.margin:
        return "undecided"
    if all(difference > 0 for difference in differences):
        return "better"
    return "worse" if all(difference < 0 for difference in differences) else "undecided"
