"""What a table of a paper is made of: the section `table` of an experiment, checked with the rest before anything runs.

The rule by which a claim is judged stands here, so it is written before the numbers are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from unlearn_cli.component import Fraction, NonNegative, component
from unlearn_cli.config import build_dataclass, unknown
from unlearn_cli.errors import ConfigError

Values = dict[str, list[str | int | float]]  # swept key -> some of its values


def _one_sweep() -> dict[str, list[str]]:
    return {"all": []}


@component
class Figure:
    """What is drawn, and of which columns."""

    kind: Literal["ranks", "scatter"]  # ranks: two columns over a swept key | scatter: one against the other
    good: str  # column that should be high in `ranks`; the knowledge to remove in `scatter`
    kept: str  # column of what should stay
    x: str | None = None  # ranks: swept key of the horizontal axis
    line: str | None = None  # ranks: swept key, a line for each of its values


@component
class Claim:
    """One set of settings is better than another, everything else being equal."""

    says: str  # the claim in words, with its source
    first: Values  # settings that are said to be better
    than: Values  # settings that they are compared with
    share: Fraction  # of the comparisons that must come out so: a bit above 0 for "sometimes", 0.5 for "often"


@component
class Rule:
    """When one setting is better than another: by the margin, on every seed, and not by chance."""

    measure: str  # column that is compared
    margin: NonNegative  # smallest difference that counts, in units of the measure
    alpha: Annotated[float, Field(gt=0, lt=1)]  # of the paired test, after Holm's correction over a claim


@component
class TableSpec:
    """Rows, columns, figure and claims of a table."""

    title: str
    columns: dict[str, str]  # heading -> metric, or metrics multiplied: "a * b"
    rows: list[str]  # swept keys of which a row is made
    panels: list[str] = Field(default_factory=list)  # swept keys of which a panel is made
    choose: str | None = None  # swept key that each row tunes for itself, by the rule's measure on the other seeds
    sweeps: dict[str, list[str]] = Field(default_factory=_one_sweep)  # part -> words added to the experiment
    names: dict[str, str] = Field(default_factory=dict)  # "key=value" -> what stands in the table for it
    seconds: dict[str, float] | None = None  # stage -> measured time, for where no run has recorded one
    figure: Figure | None = None
    rule: Rule | None = None
    claims: dict[str, Claim] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.choose or self.claims) and self.rule is None:
            raise ValueError("`choose` and `claims` need a `rule`")
        named = [self.rule.measure] if self.rule else []
        named += [self.figure.good, self.figure.kept] if self.figure else []
        swept = [key for claim in self.claims.values() for key in (*claim.first, *claim.than)]
        swept += [key for key in (self.figure.x, self.figure.line) if key] if self.figure else []
        for key in swept:
            if key not in self.keys:
                raise ValueError(unknown(key, key, self.keys, "panels and rows"))
        for name in named:
            if name not in self.columns:
                raise ValueError(unknown(name, name, self.columns, "columns"))

    @property
    def keys(self) -> list[str]:
        """Every swept key that tells cells apart."""
        return [*self.panels, *self.rows]

    def metrics(self, heading: str) -> list[str]:
        """Keys of `result.json` whose product a column shows."""
        return [part.strip() for part in self.columns[heading].split(" * ")]


def table_spec(node: Any, field: str = "table") -> TableSpec:
    """Build the section from plain values; ConfigError with every problem."""
    values, problems = dict(node), []
    claims = values.pop("claims", {})
    made: dict[str, Any] = {}
    for name, item in claims.items():
        try:
            made[name] = build_dataclass(Claim, item, f"{field}.claims.{name}")
        except ConfigError as error:
            problems += error.problems
    try:
        spec = build_dataclass(TableSpec, values | {"claims": made}, field)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    checked: TableSpec = spec
    return checked


def matches(values: Mapping[str, str], wanted: Values) -> bool:
    """Whether a setting is one of those that a claim names."""
    return all(values[key] in [str(option) for option in options] for key, options in wanted.items())
