"""Finished runs with numbers of our choice, as a sweep leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from fake_result import entry, fake_result
from pyarrow import parquet

from unlearn_cli.sweep.record import Entry, write

FORGET, KEPT = "fact_accuracy/forget", "fact_accuracy/retain/unseen"
Items = Mapping[str, Sequence[float]]  # split -> value of each item, all of one subject each


def readings(forget: float, kept: float, gold: float = 0.0) -> dict[str, Any]:
    """The two axes of a front: the base knows all, gold keeps all."""
    return {
        FORGET: entry(forget, 1.0, gold, direction="to_gold"),
        KEPT: entry(kept, 1.0, 1.0, direction="higher"),
    }


def sweep(folder: Path, runs: Sequence[tuple[list[str], dict[str, Any]]], **changes: Any) -> Path:
    """A sweep's folder; each run is its overrides and its metrics, and may name its `items` beside them."""
    entries = []
    for number, (overrides, metrics) in enumerate(runs):
        chosen = dict(word.split("=", 1) for word in overrides if "." not in word)
        items = metrics.pop("items", None)
        result = fake_result(run_dir=folder / str(number), metrics=metrics, seed=int(chosen.pop("seed", 0)), **changes)
        result.choices = {**result.choices, **{key: value for key, value in chosen.items() if key in result.choices}}
        result.run_dir.mkdir(parents=True)
        result.write(result.run_dir / "result.json")
        if items is not None:
            write_items(items, result.run_dir / "items.parquet")
        entries.append(Entry(number, " ".join(overrides), overrides, str(number), []))
    write(folder, entries, {})
    return folder


def write_items(items: Items, path: Path) -> None:
    """`items.parquet` of the edited model's `fact_accuracy`."""
    tables = []
    for split, values in items.items():
        n = len(values)
        texts = {"metric": ["fact_accuracy"] * n, "split": [split] * n, "role": ["edited"] * n}
        numbers = {"fact": np.arange(n), "template": np.zeros(n, dtype=int), "subject": np.arange(n)}
        tables.append(pyarrow.table(texts | numbers | {"value": np.array(values, dtype=float)}))
    parquet.write_table(pyarrow.concat_tables(tables), path)
