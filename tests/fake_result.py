"""A result such as a run of `method=npo world=tabular_small` leaves, for tests of what reads results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unlearn_cli.results import Result

MISSING = "the retain pool has no such fact"


def entry(value: float, base: float | None = None, gold: float | None = None, **changes: Any) -> dict[str, Any]:
    """A known metric without intervals."""
    readings = {"base": base, "gold": gold}
    known = {role: None if x is None else {"value": x, "ci": None, "n": 150} for role, x in readings.items()}
    made = {"value": value, "n": 150, "ci": None, "unit": "share", "direction": "lower", "status": "ok", "reason": None}
    return made | known | changes


def share(direction: str, **readings: tuple[float, float, float]) -> dict[str, Any]:
    """A share with its interval for each role: value, low, high."""
    known = {role: {"value": x, "ci": [low, high], "n": 150} for role, (x, low, high) in readings.items()}
    empty: dict[str, Any] = {"base": None, "gold": None}
    rest = {"unit": "share", "direction": direction, "status": "ok", "reason": None}
    return empty | known.pop("edited") | rest | known


def skipped(reason: str, unit: str = "share", status: str = "skipped") -> dict[str, Any]:
    """A metric without a value."""
    empty: dict[str, Any] = dict.fromkeys(("value", "n", "ci", "base", "gold"))
    return empty | {"unit": unit, "direction": "lower", "status": status, "reason": reason}


def metrics() -> dict[str, Any]:
    """A core set of metrics in short."""
    accuracy = {
        "forget": share("to_gold", base=(1, 0.976, 1), edited=(0.04, 0.013, 0.097), gold=(0.06, 0.023, 0.121)),
        "edited": share("to_gold", base=(1, 0.976, 1), edited=(0.04, 0.013, 0.097), gold=(0.06, 0.023, 0.121)),
        "edited_para": share("to_gold", base=(0.98, 0.95, 1), edited=(0.12, 0.06, 0.2), gold=(0.06, 0.01, 0.14)),
        "dep_keep": skipped("no fact of this world follows from another"),
        "same_subject/seen": skipped(MISSING),
        "same_subject/unseen": share("higher", base=(1, 0.97, 1), edited=(0.613, 0.52, 0.7), gold=(0.9967, 0.98, 1)),
        "same_value_new/unseen": skipped("the request names no new object"),
        "unrelated/unseen": share("higher", base=(1, 0.99, 1), edited=(0.947, 0.92, 0.97), gold=(1, 0.99, 1)),
        "holdout": share("to_gold", base=(0.05, 0.02, 0.1), edited=(0.04, 0.01, 0.09), gold=(0.05, 0.02, 0.1)),
        "retain/unseen": share("higher", base=(1, 0.99, 1), edited=(0.78, 0.73, 0.83), gold=(0.998, 0.99, 1)),
    }
    probability = {"unit": "probability"}
    others = {
        "answer_probability/forget": entry(0.00123, 0.981, 0.0151, direction="to_gold", **probability),
        "answer_probability/same_subject/unseen": entry(0.5, 0.97, 0.96, direction="higher", **probability),
        "answer_probability/same_value_new/unseen": skipped("the request names no new object"),
        "answer_rank/forget": entry(31.5, 1.0, 12.0, unit="rank of O", direction="to_gold"),
        "distance_to_gold/kl/forget": entry(1.204, 5.43, 0.31, unit="nats"),
        "distance_to_gold/js/forget": entry(0.3, 0.6, 0.1, unit="nats"),
        "weight_delta_norms/relative": entry(0.0123, direction="descriptive", unit="ratio"),
        "weight_delta_norms/layer/0": entry(0.4, direction="descriptive"),
        "phrasing_generalization/form_ratio": skipped("the edit changed trained templates by less than 0.01"),
        "probe_attack": skipped("ZeroDivisionError: division by zero", status="failed"),
        "cost/seconds": entry(3.08, 14.2, 21.3, unit="s"),
        "cost/peak_memory": entry(1.234e9, 9.9e8, 9.9e8, unit="bytes"),
        "cost/steps": entry(350, 1500, 1500, unit="steps"),
        "cost/flops": entry(1.2e13, 4.75e13, 4.7e13, unit="flop"),
    }
    return {f"fact_accuracy/{split}": value for split, value in accuracy.items()} | others


def stage(seconds: float, cached: bool, digest: str = "0123456789abcdef") -> dict[str, Any]:
    """The record of one artifact."""
    path = f"/cache/stage/label-{digest}"
    return {"digest": digest, "cached": cached, "seconds": seconds, "peak_memory_bytes": 990_000_000, "path": path}


def fake_result(run_dir: Path = Path("/runs/x"), **changes: Any) -> Result:
    """A finished run; `changes` replace fields."""
    gold = stage(21.3, False)
    fields: dict[str, Any] = {
        "choices": {"world": "tabular_small", "edit": "forget", "model": "small", "method": "npo", "train": "small"},
        "seed": 0,
        "status": "ok",
        "request": {"op": "forget", "facts": 50},
        "metrics": metrics(),
        "stages": {
            "train": stage(14.2, True),
            "gold": {**stage(63.9, False), "members": [{"member": member, **gold} for member in (0, 1, 2)]},
            "edit": stage(3.08, False),
            "evaluate": stage(0.84, False) | {"predictions": ["b" * 16, "e" * 16], "observations": []},
        },
        "provenance": {"unlearn": "0.1.0", "commit": None},
    }
    return Result(run_dir=run_dir, **(fields | changes))
