"""Accuracy under the names of Behemoth's validation files, each scored on the label that the file holds.

Iofinova & Alistarh 2026 (Behemoth, arXiv 2601.23153). Files hold the objects before the edit; `edited` holds the new
ones and `..._converted` the edit's new object. Where the published script means by `with_same_value` the old or the new
object, depending on the kind of edit, there are two names here. `reg_data` is what the method cannot have trained on.
`obj_nested_obj_edges` joins the files on the old object's and the new object's nested objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from unlearn_cli.component import component
from unlearn_cli.evaluation import Direction, Evaluation, MetricValue, Role, Split
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import correct, splits_of, why_empty
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.targets import Targets
from unlearn_cli.metrics.valuing import valued

NAME, UNIT = "behemoth_splits", "share"
FILES: Mapping[str, tuple[str, ...]] = {
    "edited": ("edited",),
    "implicitly_remapped_edges": ("forget_heldout",),
    "same_edges_diff_rel": ("same_subject/seen", "same_subject/unseen"),
    "with_same_value_old": ("same_value_old/seen", "same_value_old/unseen"),
    "with_same_value_new": ("same_value_new/seen", "same_value_new/unseen"),
    "with_same_rel": ("same_relation/seen", "same_relation/unseen"),
    "reg_data": ("unrelated/unseen",),
    "same_subject_second_rel": ("correlated_partner/seen", "correlated_partner/unseen"),
    "same_subject_second_rel_converted": ("correlated_partner_converted",),
    "same_subj_obj_edges": ("dep_keep/seen", "dep_keep/unseen"),
    "same_subj_nested_obj_edges": ("dep_change_isolate",),
    "obj_nested_obj_edges": ("bridge/seen", "bridge/unseen"),
}
SPECIFIC = ("same_edges_diff_rel", "with_same_value_old", "with_same_value_new", "with_same_rel", "reg_data")
REPORTED = ("same_subject_second_rel_converted", "same_subj_nested_obj_edges")  # neither end is right or wrong


@component
class BehemothSplits(Metric):
    """Greedy exact match on each file, 0 to 1; a file from several splits is the unweighted mean over them.

    specificity = unweighted mean over the splits of same_edges_diff_rel, with_same_value_*, with_same_rel and reg_data.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`behemoth_splits/<file>` and `behemoth_splits/specificity`."""
        values = {f"{NAME}/{file}": _value(evaluation, file, names) for file, names in FILES.items()}
        specific = [name for file in SPECIFIC for name in FILES[file]]
        return values | {f"{NAME}/specificity": _value(evaluation, "specificity", specific)}


def _value(evaluation: Evaluation, file: str, names: Sequence[str]) -> MetricValue:
    probes, splits = evaluation.probes, _splits(evaluation, names)
    direction: Direction = "higher"
    if file in REPORTED:
        direction = "descriptive"
    elif file == "implicitly_remapped_edges" or (file == "edited" and not Targets.of(probes).changed):
        direction = "to_gold"
    if not splits:
        return skipped(UNIT, direction, why_empty(probes, names[0]))
    return valued(evaluation, splits, correct, UNIT, direction, proportion=True)


def _splits(evaluation: Evaluation, names: Sequence[str]) -> list[Split]:
    return [split for name in names for split in splits_of(evaluation.probes, name)]
