"""What scripts/run_pretrained.py shows of each run of `unlearn`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOTH = "text_perplexity/perplexity"
ROWS = {  # what stands in the table, under which key
    "npo": {
        "requested capitals, same wording": "fact_accuracy/forget",
        "requested capitals, other wordings": "fact_accuracy/edited_para",
        "P(old capital)": "answer_probability/forget",
        "capitals of other countries, in the retain pool": "fact_accuracy/same_relation/seen",
        "capitals of other countries, not in it": "fact_accuracy/same_relation/unseen",
        "same countries, other relations": "fact_accuracy/same_subject/unseen",
        "other countries, other relations": "fact_accuracy/unrelated/unseen",
        "facts that it never knew": "fact_accuracy/holdout",
        "perplexity of prose": BOTH,
        "requested capitals after relearning others": "relearn_few_forget/forget",
    },
    "rome": {
        "new capital, same wording": "fact_accuracy/edited",
        "new capital, other wordings": "fact_accuracy/edited_para",
        "P(new capital)": "answer_probability/edited",
        "P(old capital)": "answer_probability/forget",
        "capitals of other countries": "fact_accuracy/same_relation/unseen",
        "same country, other relations": "fact_accuracy/same_subject/unseen",
        "other countries, other relations": "fact_accuracy/unrelated/unseen",
        "perplexity of prose": BOTH,
    },
}
ROWS["rome, each alone"] = {name: key for name, key in ROWS["rome"].items() if key != BOTH}


@dataclass(frozen=True)
class Run:
    """A finished run of `unlearn`."""

    title: str
    rows: dict[str, str]  # what to show, under which key
    metrics: dict[str, Any]
    folder: Path
    seconds: float
    cpu: float  # seconds of all cores together
    memory: float  # peak, GB

    def lines(self) -> list[str]:
        """A block of the table."""
        head = f"{self.title}: {self.seconds:.0f} s ({self.cpu:.0f} s of CPU), {self.memory:.1f} GB"
        out = ["", head, f"  {'':50}{'base':>8}{'edited':>8}{'n':>6}"]
        for name, key in self.rows.items():
            value = self.metrics.get(key, {})
            base = (value.get("base") or {}).get("value")
            shown = (_number(base), _number(value.get("value")), str(value.get("n") or ""))
            out.append(f"  {name:50}{shown[0]:>8}{shown[1]:>8}{shown[2]:>6}")
        return [*out, f"  {self.folder}"]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value >= 0.005 or value == 0 else f"{value:.0e}"
