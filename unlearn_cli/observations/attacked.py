"""What attacks have in common: whom they are evaluated on, and the arrays that they leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unlearn_cli.evaluation import Arrays, Ids, Predictions, ProbeSet

FORGET, NEVER_KNOWN = "forget", "holdout"


def evaluated_rows(probes: ProbeSet, without: Ids | None = None) -> Ids:
    """Rows of the requested facts, of facts that no model knew, and of unseen ones that must not change.

    Facts in `without` are left out: those that the attacker was told.
    """
    chosen = [
        split.rows for name, split in probes.splits.items() if name in (FORGET, NEVER_KNOWN) or name.endswith("/unseen")
    ]
    rows = np.unique(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)
    return rows if without is None else rows[~np.isin(probes.fact[rows], without)]


def arrays(rows: Ids, tries: Sequence[Predictions], **more: Any) -> Arrays:
    """Answers to `rows` [n] in each of S tries (seeds, or variants of the prompt), and `more` arrays."""
    return {
        "rows": rows,
        "candidate_logps": np.stack([answers.candidate_logps for answers in tries]),  # [S, n, O]
        "greedy": np.stack([answers.greedy for answers in tries]),  # [S, n]
        **more,
    }
