"""Rank the settings of a sweep: `python scripts/rank.py runs/sweeps/tune_npo`.

score = (1 - max(0, forget - gold's forget)) * unseen retain, for an edit that names targets: efficacy * unseen retain;
averaged over seeds. Every method is searched with the same number of settings and seeds (conf/experiment/tune_*.yaml).
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

COLUMNS = ("forget", "edited", "edited_para", "retain/unseen")


def main(folder: Path) -> int:
    """Print one row per setting, the best first."""
    groups = defaultdict(list)
    for path in sorted(folder.rglob("result.json")):
        result = json.loads(path.read_text())
        if result["status"] == "ok":
            groups[setting(path.parent)].append(result)
        else:
            print(f"{path.parent}: {result['status']}, left out", file=sys.stderr)
    if not groups:
        print(f"no finished run under {folder}", file=sys.stderr)
        return 1
    shared = set.intersection(*map(set, groups)) if len(groups) > 1 else set()
    print(f"| score | {' | '.join(COLUMNS)} | seeds | setting |")
    print("|" + "---|" * (len(COLUMNS) + 3))
    for name, results in sorted(groups.items(), key=lambda item: -mean(map(score, item[1]))):
        cells = [f"{mean(value(result, column) for result in results):.3f}" for column in COLUMNS]
        told = " ".join(word for word in name if word not in shared)
        print(f"| {mean(map(score, results)):.3f} | {' | '.join(cells)} | {len(results)} | {told} |")
    return 0


def setting(run: Path) -> tuple[str, ...]:
    """The run's overrides without its seed."""
    lines = (run / ".hydra" / "overrides.yaml").read_text().splitlines()
    return tuple(line.removeprefix("- ") for line in lines if not line.startswith(("- seed=", "- experiment=")))


def value(result: dict[str, Any], split: str, role: str = "value") -> float:
    """Fact accuracy on a split: the edited model's, or another role's."""
    entry = result["metrics"][f"fact_accuracy/{split}"]
    return float(entry["value"] if role == "value" else entry[role]["value"])


def score(result: dict[str, Any]) -> float:
    """Forgetting down to gold's level, or efficacy, times what is kept."""
    if result["request"]["op"] == "forget":
        done = 1 - max(0.0, value(result, "forget") - value(result, "forget", "gold"))
    else:
        done = value(result, "edited")
    return done * value(result, "retain/unseen")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
