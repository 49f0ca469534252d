"""RippleEdits' criteria, as far as the facts of a world can be put to them.

Cohen et al. 2023 (arXiv 2307.12976): six criteria. Here: Compositionality I (the edited fact is the first hop: nested
objects, edit.edge=so), Compositionality II (it is the second: edit.edge=on), Relation Specificity (other relations of
the subject). A world has no symmetric or inverse relations (Logical Generalization), no second names of subjects
(Subject Aliasing), and one object for each subject and relation (Forgetfulness): these are skipped.
As published, a test is executed if the base answers its prerequisite, here the fact as it was, and only edits that
succeeded are averaged: read `/success` beside it. Each edit counts once, whatever the number of its tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, Floats, Ids, MetricValue, Predictions, Role, Split
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import correct, splits_of, why_empty
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.ripple import CLOSURE, ISOLATE
from unlearn_cli.metrics.targets import NO_TARGET, Targets
from unlearn_cli.metrics.valuing import from_parts
from unlearn_cli.statistics import Part

NAME, UNIT = "ripple_effects", "share"
ABSENT = {
    "logical_generalization": "no relation of a world is symmetric, or the inverse of another",
    "subject_aliasing": "subjects of a world have one name",
    "forgetfulness": "a subject has one object by each relation",
}
SPECIFIC = ("same_subject/seen", "same_subject/unseen")


@component
class RippleEffects(Metric):
    """Share of executed tests passed, averaged over successful edits, 0 to 1, ideal 1.

    success: share of edits answered with the new object in most phrasings they were written in; executed: share of
    tests whose prerequisite the base knows. An edit that changes nothing has success 0 and no score.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`ripple_effects/<criterion>`, `ripple_effects/success`, `ripple_effects/executed`."""
        tests = _tests(evaluation)
        values = {f"{NAME}/{name}": skipped(UNIT, "higher", why) for name, why in ABSENT.items()}
        values |= {f"{NAME}/{name}": _criterion(evaluation, found) for name, found in tests.items()}
        known = [found for found in tests.values() if not isinstance(found, str)]
        return values | {
            f"{NAME}/success": _success(evaluation),
            f"{NAME}/executed": _executed(evaluation, known),
        }


Test = tuple[Ids, Ids, Ids]  # rows [n], right answers [n], answers before the edit [n]


def _tests(evaluation: Evaluation) -> dict[str, Test | str]:
    """The tests of each criterion, or why there is none."""
    probes = evaluation.probes
    found: dict[str, Test | str] = {}
    subjects = probes.subject[probes.splits["forget"].rows]
    for name, first_hop in (("compositionality_1", True), ("compositionality_2", False)):
        found[name] = why_empty(probes, CLOSURE)
        if splits_of(probes, CLOSURE):
            new, old = probes.splits[CLOSURE], probes.splits[ISOLATE]
            kept = np.isin(probes.subject[new.rows], subjects) == first_hop
            found[name] = f"no edited fact is the {'first' if first_hop else 'second'} hop of a chain"
            if kept.any():
                found[name] = new.rows[kept], new.answer[kept], old.answer[kept]
    others = [split for name in SPECIFIC for split in splits_of(probes, name)]
    if not others:
        return found | {"relation_specificity": why_empty(probes, SPECIFIC[0])}
    answers = np.concatenate([split.answer for split in others])
    return found | {"relation_specificity": (np.concatenate([split.rows for split in others]), answers, answers)}


def _criterion(evaluation: Evaluation, test: Test | str) -> MetricValue:
    if isinstance(test, str) or not Targets.of(evaluation.probes).changed:
        return skipped(UNIT, "higher", test if isinstance(test, str) else NO_TARGET)
    (base,) = evaluation.predictions["base"]
    rows, answer, old = test
    executed = correct(base, rows, old) == 1
    read: tuple[Role, ...] = ("edited", "gold")
    parts = {
        role: [
            part
            for model in evaluation.predictions.get(role, ())
            for part in _passed(evaluation, model, rows[executed], answer[executed])
        ]
        for role in read
    }
    why = "no edit with an executed test succeeded"
    return from_parts(parts, evaluation.bootstrap, UNIT, "higher", proportion=True, undefined=why)


def _passed(evaluation: Evaluation, model: Predictions, rows: Ids, answer: Ids) -> list[Part]:
    """For each successful edit the share of its tests passed. Tests of no edit's subject hang on none's success."""
    cluster = evaluation.probes.cluster
    edited = evaluation.probes.splits["edited"]
    edits, success = _by_cluster(correct(model, edited.rows, edited.answer), cluster[edited.rows])
    kept = ~np.isin(cluster[rows], edits[success < 0.5])
    if not kept.any():
        return []
    owners, passed = _by_cluster(correct(model, rows[kept], answer[kept]), cluster[rows[kept]])
    return [Part(passed, owners)]


def _success(evaluation: Evaluation) -> MetricValue:
    if not Targets.of(evaluation.probes).changed:
        return skipped(UNIT, "higher", NO_TARGET)
    split: Split = evaluation.probes.splits["edited"]
    read: tuple[Role, ...] = ("edited", "base", "gold")
    parts = {
        role: [
            Part((shares >= 0.5).astype(np.float64), edits)
            for model in evaluation.predictions.get(role, ())
            for edits, shares in [
                _by_cluster(correct(model, split.rows, split.answer), evaluation.probes.cluster[split.rows])
            ]
        ]
        for role in read
    }
    return from_parts(parts, evaluation.bootstrap, UNIT, "higher", proportion=True)


def _executed(evaluation: Evaluation, tests: list[Test]) -> MetricValue:
    if not tests:
        return skipped(UNIT, "descriptive", "this world has no test of any criterion")
    (base,) = evaluation.predictions["base"]
    rows = np.concatenate([test[0] for test in tests])
    known = correct(base, rows, np.concatenate([test[2] for test in tests]))
    parts: dict[Role, list[Part]] = {"edited": [Part(known, evaluation.probes.cluster[rows])]}
    return from_parts(parts, evaluation.bootstrap, UNIT, "descriptive", proportion=True)


def _by_cluster(values: Floats, cluster: Ids) -> tuple[Ids, Floats]:
    """Each cluster's mean, in order of the clusters."""
    clusters, place = np.unique(cluster, return_inverse=True)
    return clusters, np.bincount(place, values) / np.bincount(place)
