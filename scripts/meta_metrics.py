"""Judge the metrics themselves: `python scripts/meta_metrics.py runs/sweeps/meta_metrics... --to DIR`.

Reads runs of method=noop (models that hold the facts), of method=retrain method.fresh=true (models that never did) and
of any other method (unlearned models, for robustness), see conf/experiment/meta_metrics.yaml. Writes meta.md, .tex and
.csv: for each forget-side metric its faithfulness, threshold, robustness and both together. What the columns mean, and
what they cannot tell: docs/metrics/meta.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unlearn_cli.analysis import judged
from unlearn_cli.analysis.attacked import Attacked, changes
from unlearn_cli.analysis.judged import Faithfulness, Form
from unlearn_cli.analysis.leaderboard import harmonic_mean
from unlearn_cli.analysis.runs import Run, one_schema, sorted_runs
from unlearn_cli.analysis.tables import Table, Text, write_csv, write_tables
from unlearn_cli.errors import UnlearnError
from unlearn_cli.sweep.collect import read_runs

KNOWN, UNKNOWN = "noop", "retrain"  # methods of the two pools
UTILITY, FLOOR = "fact_accuracy/retain/unseen", 0.8  # share of the base's that an unlearned model must keep
RELEARNED, QUANTIZED = {"facts": "few_forget"}, {"bits": 4}
ABOUT_FORGET = {"forget", "edited", "edited_para", "edited_order", "edited_qa"}
NAMED = ("forget_quality/", "privleak", "gap_average/ua")  # about the requested facts though no split says so
NO_READING = ("gain", "excess", "recovery", "retain")  # of attacks: changes, and what is not about the facts


@dataclass(frozen=True)
class Judgement:
    """One metric's trial."""

    key: str
    faithful: Faithfulness
    p: float  # that the pools do not differ
    relearned: list[float]  # R of each unlearned model that counts
    quantized: list[float]  # Q
    robust: float | None
    why: str = ""  # there is no robustness

    @property
    def overall(self) -> float | None:
        """HM of faithfulness and robustness."""
        return None if self.robust is None else harmonic_mean([self.faithful.auc, self.robust])


def main() -> int:
    """Write the table, and say on stderr what was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="sweeps, run folders, or folders above them")
    parser.add_argument("--to", type=Path, required=True, help="folder to write; made if absent")
    parser.add_argument(
        "--q-form", choices=("knowledge_up", "as_coded", "symmetric"), default="knowledge_up", help="how Q is formed"
    )
    given = parser.parse_args()
    try:
        one_schema(given.folders)
        runs, left = sorted_runs(read_runs(given.folders))
        for line in left:
            print(f"left out: {line}", file=sys.stderr)
        found = judge(runs, given.q_form)
        given.to.mkdir(parents=True, exist_ok=True)
        write(found, runs, given.to)
    except UnlearnError as error:
        print(error, file=sys.stderr)
        return 1
    print(given.to)
    return 0


def judge(runs: Sequence[Run], form: Form) -> list[Judgement]:
    """Every forget-side metric that all models of both pools have, the most faithful first."""
    known, unknown = pool(runs, KNOWN), pool(runs, UNKNOWN)
    if len(known) < 2 or len(unknown) < 2:
        raise UnlearnError(
            f"{len(known)} runs of method={KNOWN} and {len(unknown)} of method={UNKNOWN}; expected two of each or more"
        )
    for run in unknown:
        if "fresh=true" not in run.setting.lower():
            print(f"{run.row} seed={run.seed}: is gold itself, which flatters what refers to gold", file=sys.stderr)
    shared = set.intersection(*(set(readings(run)) for run in [*known, *unknown]))
    keys = [key for key in readings(known[0]) if key in shared and not _repeats(key, shared)]
    values = {key: tuple([float(run.value(key) or 0.0) for run in side] for side in (known, unknown)) for key in keys}
    attacked = [(run, changes(run.result, RELEARNED), changes(run.result, QUANTIZED)) for run in useful(runs)]
    found = [_judged(key, *values[key], attacked, form) for key in keys]
    return sorted(found, key=lambda item: (-item.faithful.auc, -(item.overall or 0.0)))


def pool(runs: Sequence[Run], method: str) -> list[Run]:
    """The runs of one method."""
    return [run for run in runs if run.method == method]


def readings(run: Run) -> list[str]:
    """Keys of the run's metrics that say something of the requested facts."""
    return [key for key, item in run.result.metrics.items() if item["value"] is not None and about_forget(key, item)]


def about_forget(key: str, item: Mapping[str, object]) -> bool:
    """Whether a metric is about the requested facts, and a reading of the model as it is."""
    parts = key.split("/")
    if "holdout" in parts or "retain" in parts or parts[-1] in NO_READING:
        return False
    return item["direction"] == "to_gold" or bool(ABOUT_FORGET & set(parts)) or key.startswith(NAMED)


def _repeats(key: str, keys: set[str]) -> bool:
    """Whether it is the same number as another: a request to forget is scored on the old object in both splits."""
    name, _, split = key.rpartition("/")
    return split == "edited" and f"{name}/forget" in keys


def useful(runs: Sequence[Run]) -> list[Run]:
    """Unlearned models that still know what they should."""
    kept = []
    for run in runs:
        mine, base = run.value(UTILITY), run.value(UTILITY, "base")
        if run.method not in (KNOWN, UNKNOWN) and mine is not None and base is not None and mine >= FLOOR * base:
            kept.append(run)
    return kept


def _judged(
    key: str,
    known: Sequence[float],
    unknown: Sequence[float],
    attacked: Sequence[tuple[Run, Mapping[str, Attacked], Mapping[str, Attacked]]],
    form: Form,
) -> Judgement:
    faithful, p = judged.faithfulness(known, unknown), judged.pools_differ(known, unknown)
    measured = [entry for entry in attacked if key in entry[1] and key in entry[2]]
    if not measured:
        return Judgement(key, faithful, p, [], [], None, "not measured under attack")
    forgotten = [(r[key], q[key]) for run, r, q in measured if _says_forgotten(faithful, run.value(key))]
    if not forgotten:
        return Judgement(key, faithful, p, [], [], None, "it calls no model forgotten")
    relearned = [_relearning(r, faithful.sign) for r, _ in forgotten]
    if min(min(q.edited.before, q.edited.after) for _, q in forgotten) < 0:
        return Judgement(key, faithful, p, relearned, [], None, "below zero, so that no ratio is defined")
    quantized = [_quantization(q, faithful.sign, form) for _, q in forgotten]
    return Judgement(key, faithful, p, relearned, quantized, judged.robustness(relearned, quantized))


def _says_forgotten(faithful: Faithfulness, value: float | None) -> bool:
    if value is None or faithful.threshold is None:
        return False
    return faithful.sign * value < faithful.sign * faithful.threshold


def _relearning(change: Attacked, sign: int) -> float:
    edited, gold = change.edited, change.gold
    return judged.relearning(*(sign * x for x in (edited.before, edited.after, gold.before, gold.after)))


def _quantization(change: Attacked, sign: int, form: Form) -> float:
    """Where lower means more knowledge, the ratio is turned over."""
    ends = (change.edited.before, change.edited.after)
    return judged.quantization(*(ends if sign > 0 else ends[::-1]), form=form)


def write(found: Sequence[Judgement], runs: Sequence[Run], to: Path) -> None:
    """`meta.md`, `.tex`, `.csv`."""
    heads = ("metric", "knows if", "faithfulness", "p", "models", "R", "Q", "robustness", "overall")
    rows = [[Text(text) for text in _texts(item)] for item in found]
    known, unknown, kept = len(pool(runs, KNOWN)), len(pool(runs, UNKNOWN)), useful(runs)
    broken = len(runs) - known - unknown - len(kept)
    notes = [
        f"{known} models that hold the facts, {unknown} that never did, {len(kept)} unlearned ones that keep "
        f"{FLOOR} of the base's {UTILITY} ({broken} do not and count for nothing).",
        "models: unlearned ones that the metric calls forgotten. p: that the pools do not differ, not corrected for "
        "the number of metrics.",
    ]
    write_tables([Table("Metrics on trial", heads, rows, notes)], to / "meta")
    columns = (
        "metric",
        "sign",
        "threshold",
        "accuracy",
        "faithfulness",
        "p",
        "models",
        "r",
        "q",
        "robustness",
        "overall",
        "why",
    )
    write_csv(columns, [_row(item) for item in found], to / "meta.csv")


def _texts(item: Judgement) -> list[str]:
    threshold, side = item.faithful.threshold, "≥" if item.faithful.sign > 0 else "≤"
    means = [_mean(item.relearned), _mean(item.quantized), item.robust, item.overall]
    shown = ["-" if value is None else f"{value:.2f}" for value in means]
    where = "never" if threshold is None else f"{side} {threshold:.3g}"
    return [item.key, where, f"{item.faithful.auc:.2f}", f"{item.p:.2g}", str(len(item.relearned)), *shown]


def _row(item: Judgement) -> list[object]:
    faithful = item.faithful
    told = [item.key, faithful.sign, faithful.threshold, faithful.accuracy, faithful.auc, item.p, len(item.relearned)]
    return [*told, _mean(item.relearned), _mean(item.quantized), item.robust, item.overall, item.why]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


if __name__ == "__main__":
    sys.exit(main())
