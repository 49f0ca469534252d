"""Results of OpenUnlearning (Dorna et al. 2025, arXiv 2506.12618) as baselines beside ours.

Its evaluations leave `<suite>_EVAL.json` in a folder: for each metric `agg_value`, and mostly `value_by_index`, item by
item; `<suite>_SUMMARY.json` has the aggregates alone and is read where there is no other. A metric keeps our name only
where both define the same number; all others are kept as `openunlearning/<name>`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn_cli.errors import UnlearnError

SOURCE = "openunlearning"
EVAL, SUMMARY = "_EVAL.json", "_SUMMARY.json"


@dataclass(frozen=True)
class Same:
    """The metric of ours that a metric of theirs is."""

    key: str
    unit: str
    direction: str
    scale: float = 1.0
    remark: str | None = None  # what a reader must know


END = "the end-of-text token counts as one of the answer's"
NO_REFERENCE = "without retain logs OpenUnlearning takes 0.5 for the retrained model's area"
SAME = {
    "forget_q_a_prob": Same("tofu_probability/forget", "probability", "to_gold", remark=END),
    "retain_q_a_prob": Same("tofu_probability/retain", "probability", "higher", remark=END),
    "forget_q_a_rouge": Same("tofu_rouge/forget", "share", "to_gold"),
    "retain_q_a_rouge": Same("tofu_rouge/retain", "share", "higher"),
    "forget_truth_ratio": Same("truth_ratio/closeness/forget", "ratio", "to_gold", remark=END),
    "retain_truth_ratio": Same("truth_ratio/utility/retain", "ratio", "higher", remark=END),
    "forget_quality": Same("forget_quality/pvalue", "probability", "higher"),
    "exact_memorization": Same("exact_memorization/forget", "share", "to_gold"),
    "privleak": Same("privleak", "%", "to_gold", remark=NO_REFERENCE),
    "mia_loss": Same("mia_loss/forget", "auc", "to_gold"),
    "mia_min_k": Same("mia_min_k/forget", "auc", "to_gold"),
    "mia_min_k_plus_plus": Same("mia_min_k_pp/forget", "auc", "to_gold"),
    "mia_zlib": Same("mia_zlib/forget", "auc", "to_gold"),
    "mia_reference": Same("mia_reference/forget", "auc", "to_gold"),
    "forget_knowmem_rouge": Same("muse_knowmem/forget", "ROUGE x 100", "to_gold", 100.0),
    "retain_knowmem_rouge": Same("muse_knowmem/retain", "ROUGE x 100", "higher", 100.0),
    "forget_verbmem_rouge": Same("muse_verbmem/forget", "ROUGE x 100", "to_gold", 100.0),
}

Row = dict[str, Any]


def read_rows(folders: Sequence[Path]) -> list[Row]:
    """A row for each metric of each file under the folders, with the columns of our tidy table."""
    files = dict.fromkeys(path for folder in folders for path in _files(folder))
    return [row for path in files for row in _rows(path)]


def _files(folder: Path) -> Iterator[Path]:
    """Every EVAL file, and the SUMMARY files that have none beside them."""
    yield from sorted(folder.rglob(f"*{EVAL}"))
    for path in sorted(folder.rglob(f"*{SUMMARY}")):
        if not path.with_name(path.name.removesuffix(SUMMARY) + EVAL).exists():
            yield path


def _rows(path: Path) -> Iterator[Row]:
    suite = path.name.removesuffix(EVAL).removesuffix(SUMMARY)
    place = path.parent.parent if path.parent.name == "evals" else path.parent
    told = {"source": SOURCE, "run": str(path.parent), "label": place.name, "name": suite}
    try:
        entries = _read(path)
    except UnlearnError as error:
        yield told | {"state": "failed", "error": str(error)}
        return
    for name, entry in entries.items():
        yield told | {"state": "ok"} | _values(name, entry)


def _read(path: Path) -> dict[str, Any]:
    """Metrics by name; UnlearnError where that is not what the file holds."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnlearnError(f"{path} cannot be read: {error}") from None
    if not isinstance(held, dict) or not held:
        kind = "nothing" if not held else f"a {type(held).__name__}"
        raise UnlearnError(f"{path} holds {kind}; expected metrics by name, each with agg_value")
    return held


def _values(name: str, entry: Any) -> Row:
    """What a metric's entry says, in our columns."""
    value, items = (entry.get("agg_value"), entry.get("value_by_index")) if isinstance(entry, dict) else (entry, None)
    same = SAME.get(name.lower())
    metric, _, split = same.key.partition("/") if same else (f"{SOURCE}/{name}", "", "")
    told: Row = {"metric": metric, "split": split or None, "n": len(items) if isinstance(items, dict) else None}
    told |= {"unit": same.unit, "direction": same.direction} if same else {"direction": "descriptive"}
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return told | {"status": "failed", "reason": f"{name}: agg_value is {_shown(value)}, no number"}
    scaled = value * (same.scale if same else 1.0)
    return told | {"value": scaled, "status": "ok", "reason": same.remark if same else None}


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:40]
