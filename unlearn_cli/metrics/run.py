"""Compute a set of metrics, each on its own: one that cannot be computed says so and hides no other."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from unlearn_cli.evaluation import Absent, Evaluation, MetricValue, Role
from unlearn_cli.metrics.base import Metric

log = logging.getLogger(__name__)

ABSENT: dict[Role, str] = {
    "gold": "there is no gold model: gold.n=0",
    "base": "there is no base",
    "edited": "there is no edit",
    "shadow": "there is no shadow model",
    "unlearned_shadow": "the edit cannot be repeated on shadow models: the method needs a retrained model or prepares"
    " itself, or the edit has a model for each request or corrupts the base",
}


def compute_all(metrics: Mapping[str, Metric], evaluation: Evaluation) -> dict[str, MetricValue]:
    """Return every metric's values by full name; skipped or failed ones carry the reason."""
    values: dict[str, MetricValue] = {}
    for name, metric in metrics.items():
        absent = _why_not(metric, evaluation)
        if absent:
            values[name] = _without_value("failed" if absent.failed else "skipped", absent.reason)
            continue
        try:
            values |= metric.compute(evaluation)
        except Exception as error:  # a defect in one metric must not cost the run the others
            log.exception("metric %s failed", name)
            values[name] = _without_value("failed", f"{type(error).__name__}: {error}")
    return values


def _why_not(metric: Metric, evaluation: Evaluation) -> Absent | None:
    there = evaluation.predictions.keys() | evaluation.checkpoints.keys()
    missing = [role for role in sorted(metric.needs) if role not in there]
    if missing:
        return Absent(ABSENT[missing[0]])
    if (metric.reads_weights or metric.observations) and not evaluation.checkpoints.get("edited"):
        return Absent("every request has an edited model of its own: edit.schedule=independent")
    unseen = [
        found
        for item in metric.observations
        for role in item.roles
        for found in evaluation.observed.get((role, item), ())
        if isinstance(found, Absent) and (found.failed or role in metric.needs)
    ]
    return unseen[0] if unseen else None


def _without_value(status: str, reason: str) -> MetricValue:
    return MetricValue(edited=None, unit="", direction="descriptive", status=status, reason=reason)  # type: ignore[arg-type]
