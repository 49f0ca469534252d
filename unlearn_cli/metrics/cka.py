"""How alike are the hidden states of two models, block by block? Linear CKA (Kornblith et al. 2019, arXiv
1905.00414).

||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F) on centred states [n, d]; debiased with the unbiased HSIC of Song et al. 2012, as
Nguyen et al. 2021 (arXiv 2010.15327) take it. The biased one is near 1 for any two models when n is not much larger
than d; the debiased one can be below 0. Erasure form as the CKA baseline of Lee et al. 2026 (arXiv 2605.24614). No
interval: probes of one subject are alike, and a resample that repeats rows raises CKA. Trap: a few directions of high
variance decide it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Direction, Evaluation, Floats, MetricValue, Reading, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import splits_of
from unlearn_cli.metrics.readings import measured, skipped
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.hidden_states import HiddenStates

NAME = "cka"
LEAST = 4  # rows that the unbiased estimator needs
ASKED = {"forget": "forget", "retain": "retain/unseen"}

Pair = tuple[float, float]  # debiased, biased


@component
class CKA(Metric):
    """Similarity of states at the last prompt token, at most 1; mean over the blocks, debiased unless it says biased.

    /to_base/<forget|retain>: edited model and base, gold and base beside it (forget: to gold; retain: 1 is no change);
    /to_gold/forget: edited model and gold, base and gold beside it; /biased/...: the same with the plain estimator;
    /layer_<l>: /to_base/forget behind block l. /erasure: clip((CKA(edited, gold) - CKA(base, gold)) / (1 - CKA(base,
    gold)), 0, 1) of each block, weighted by 1 - CKA(base, gold): 0 as far from gold as the base, 1 is gold.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    facts: Count = 100  # facts asked of each must-not-change split; of the requested facts all
    train_facts: Count = 2000  # those of linear_probe: the same states serve both
    train_templates: Count = 4

    @property
    def states(self) -> HiddenStates:
        """What is read."""
        return HiddenStates(facts=self.facts, train_facts=self.train_facts, train_templates=self.train_templates)

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Hidden states."""
        return (self.states,)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`cka/[biased/]to_base/<forget|retain>`, `/to_gold/forget`, `/erasure`, `/layer_<l>`."""
        seen = {role: evaluation.seen(self.states, role) for role in ("base", "edited", "gold")}
        base, edited, gold = seen["base"][0], seen["edited"][0], seen["gold"]
        values: dict[str, MetricValue] = {}
        for group, name in ASKED.items():
            wanted = [split.rows for split in splits_of(evaluation.probes, name)]
            rows = np.isin(edited["rows"], np.concatenate(wanted) if wanted else [])
            direction: Direction = "to_gold" if group == "forget" else "higher"
            if rows.sum() < LEAST:
                values[f"to_base/{group}"] = skipped("CKA", direction, f"{rows.sum()} probes; it takes {LEAST}")
                continue
            n = int(rows.sum())
            mine, theirs = profile(edited, base, rows), _mean(profile(model, base, rows) for model in gold)
            values |= _both(f"to_base/{group}", mine, theirs, n, direction)
            if group == "forget":
                values |= _towards_gold(edited, base, gold, rows)
                values |= {
                    f"layer_{layer + 1}": measured(
                        Reading(float(pair[0]), n),
                        "CKA",
                        direction,
                        gold=None if theirs is None else Reading(float(theirs[layer, 0]), n),
                    )
                    for layer, pair in enumerate(mine)
                }
        return {f"{NAME}/{name}": value for name, value in values.items()}


def linear_cka(x: NDArray[np.floating], y: NDArray[np.floating]) -> Pair:
    """Debiased and biased CKA of rows [n, d] and [n, e]; 0 where one of them does not vary."""
    x, y = (rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64) for rows in (x, y))
    crossed, own_x, own_y = (np.sum((a.T @ b) ** 2) for a, b in ((x, y), (x, x), (y, y)))
    squares_x, squares_y = np.sum(x * x, axis=1), np.sum(y * y, axis=1)
    unbiased = [
        _unbiased(plain, a, b)
        for plain, a, b in (
            (crossed, squares_x, squares_y),
            (own_x, squares_x, squares_x),
            (own_y, squares_y, squares_y),
        )
    ]
    return _ratio(*unbiased), _ratio(crossed, own_x, own_y)


def _unbiased(plain: float, squares_x: Floats, squares_y: Floats) -> float:
    """HSIC without the diagonal of both Gram matrices, up to a factor, from the centred sum and row norms."""
    n = len(squares_x)
    diagonal = n / (n - 2) * float(squares_x @ squares_y)
    return plain - diagonal + float(squares_x.sum() * squares_y.sum()) / ((n - 1) * (n - 2))


def _ratio(crossed: float, own_x: float, own_y: float) -> float:
    return float(crossed / np.sqrt(own_x * own_y)) if own_x > 0 and own_y > 0 else 0.0


def profile(a: Arrays, b: Arrays, rows: NDArray[np.bool_]) -> Floats:
    """Debiased and biased CKA of two models behind every block [L, 2]."""
    return np.array([linear_cka(x[rows], y[rows]) for x, y in zip(a["end"][1:], b["end"][1:], strict=True)])


def erasure(edited: Floats, base: Floats) -> float | None:
    """The score from CKA to gold of the edited model and of the base behind blocks [L]; None where base is gold."""
    far = np.maximum(1 - base, 0.0)
    gone = np.minimum(np.maximum(edited - base, 0.0), far)  # clip(x / far, 0, 1) * far
    return float(gone.sum() / far.sum()) if far.sum() > 1e-9 else None


def _towards_gold(
    edited: Arrays, base: Arrays, gold: Sequence[Arrays], rows: NDArray[np.bool_]
) -> dict[str, MetricValue]:
    mine, start = (_mean(profile(model, one, rows) for one in gold) for model in (edited, base))
    if mine is None or start is None:
        return {"to_gold/forget": skipped("CKA", "higher", "there is no gold model to compare with")}
    n, score = int(rows.sum()), erasure(mine[:, 0], start[:, 0])
    found = {
        f"{kind}to_gold/forget": measured(
            Reading(float(mine[:, column].mean()), n), "CKA", "higher", base=Reading(float(start[:, column].mean()), n)
        )
        for column, kind in enumerate(("", "biased/"))
    }
    reading = None if score is None else Reading(score, n)
    same = "the base's states are already gold's"
    return found | {"erasure": measured(reading, "share", "higher", undefined=same)}


def _both(name: str, mine: Floats, theirs: Floats | None, n: int, direction: Direction) -> dict[str, MetricValue]:
    return {
        f"{kind}{name}": measured(
            Reading(float(mine[:, column].mean()), n),
            "CKA",
            direction,
            gold=None if theirs is None else Reading(float(theirs[:, column].mean()), n),
        )
        for column, kind in enumerate(("", "biased/"))
    }


def _mean(found: Iterable[Floats]) -> Floats | None:
    every = list(found)
    return np.mean(every, axis=0) if every else None
