"""Can the object be read off hidden states by a linear probe? Patil et al. 2023 (arXiv 2309.17410); Lynch et al. 2024
(arXiv 2402.16835); the position of the subject after Allen-Zhu & Li 2023 (arXiv 2309.14316).

Departures: a ridge on one-hot objects in closed form in place of multinomial logistic regression, one for each
relation; no cross-validation within the requested facts. Control: objects shuffled among the training facts (after
Hewitt & Liang 2019, arXiv 1909.03368). Traps: with few facts for each object the probe is too weak to say anything,
which `/retain` shows; a fact held in another basis or not linearly escapes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.component import Count, Positive, component
from unlearn_cli.evaluation import Arrays, Evaluation, Ids, MetricValue, Role, Split
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import ROLES, splits_of, why_empty
from unlearn_cli.metrics.readings import mean_reading, measured, skipped, with_items
from unlearn_cli.metrics.ridge import predicted
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.hidden_states import HiddenStates
from unlearn_cli.statistics import Part

UNIT = "share"
NO_SAMPLE = "no retain fact of the requested relations is left to train a probe on"
NO_CLASS_SHARED = "no requested fact has an object that another fact of its relation has, so that no probe learns it"
NO_CLASS = -1  # predicted where the relation has no training sample

Position = Literal["end", "subject"]


@component
class LinearProbe(Metric):
    """Accuracy of a probe that is trained on retain facts of the same relation, on requested facts; 0 to 1.

    <name>/forget: behind the block that does best on the tune slice of the requested facts, on the others; /excess:
    the edited model's less gold's, the result, ideally 0; /retain: on unseen facts of these relations behind the block
    that does best on a tune slice of them, on the others, what a probe can do at all; /selectivity: that less what a
    probe on shuffled objects does there; /layer_<l>: /forget behind block l.
    """

    VERSION: ClassVar[int] = 2
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})
    name: ClassVar[str] = "linear_probe"

    position: Position = "end"  # of the prompt, or of the subject's name
    penalty: Positive = 1e-2  # ridge, in units of the standardised features' variance
    facts: Count = 100  # facts asked of each split
    train_facts: Count = 2000  # facts to train on
    train_templates: Count = 4  # phrasings of each

    @property
    def label(self) -> str:
        """What keys begin with."""
        return self.name if self.position == "end" else f"{self.name}_{self.position}"

    @property
    def states(self) -> HiddenStates:
        """What is read."""
        return HiddenStates(facts=self.facts, train_facts=self.train_facts, train_templates=self.train_templates)

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Hidden states."""
        return (self.states,)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`<name>/<forget|excess|retain|selectivity|layer_1|layer_2|...>`."""
        forget = splits_of(evaluation.probes, "forget")
        seen = {role: evaluation.seen(self.states, role) for role in ROLES}
        why = self._why_not(seen["edited"][0]) if forget else why_empty(evaluation.probes, "forget")
        if why:
            return {self.label: skipped(UNIT, "to_gold", why)}
        read = {role: [_Read(self, arrays, evaluation, forget[0]) for arrays in found] for role, found in seen.items()}
        if not read["edited"][0].learnable:
            return {self.label: skipped(UNIT, "to_gold", NO_CLASS_SHARED)}
        unseen = splits_of(evaluation.probes, "retain/unseen")
        values = {
            "forget": self._forget(evaluation, read),
            "excess": self._excess(evaluation, read),
            "retain": _value(evaluation, {r: _averaged([m.parts(unseen) for m in ms]) for r, ms in read.items()}),
            "selectivity": _value(
                evaluation, {r: _averaged([m.selectivity(unseen) for m in ms]) for r, ms in read.items()}, share=False
            ),
        }
        for layer in range(1, len(read["edited"][0].hits)):
            parts = {r: _averaged([m.scored(layer) for m in ms]) for r, ms in read.items()}
            values[f"layer_{layer}"] = _value(evaluation, parts, direction="to_gold")
        return {f"{self.label}/{name}": value for name, value in values.items()}

    def _why_not(self, arrays: Arrays) -> str | None:
        if self.position not in arrays:
            return "a prompt names no subject"
        return None if len(arrays["train_object"]) else NO_SAMPLE

    def _forget(self, evaluation: Evaluation, read: Mapping[Role, Sequence[_Read]]) -> MetricValue:
        parts = {role: _averaged([model.scored() for model in models]) for role, models in read.items()}
        value = _value(evaluation, parts, direction="to_gold")
        return with_items(value, parts, read["edited"][0].forget_rows) if value.edited else value

    def _excess(self, evaluation: Evaluation, read: Mapping[Role, Sequence[_Read]]) -> MetricValue:
        if not read["gold"]:
            return skipped(UNIT, "lower", "there is no gold model to compare with")
        gold = _averaged([model.scored() for model in read["gold"]])
        mine = _averaged([model.scored() for model in read["edited"]])
        more = [Part(a.values - b.values, a.cluster) for a, b in zip(mine, gold, strict=True)]
        return measured(mean_reading(more, evaluation.bootstrap), UNIT, "lower", undefined=NO_SAMPLE)


class _Read:
    """What probes read in one model."""

    def __init__(self, metric: LinearProbe, arrays: Arrays, evaluation: Evaluation, forget: Split) -> None:
        self.metric, self.arrays, self.probes = metric, arrays, evaluation.probes
        answer = np.full(len(self.probes), NO_CLASS - 1, dtype=np.int64)
        for split in evaluation.probes.splits.values():
            if split is forget or split.name == "holdout" or split.must_not_change:
                answer[split.rows] = split.answer
        self.answer = answer[arrays["rows"]]
        layers = len(arrays[metric.position])
        found = np.stack([self._predicted(layer, "train_object") for layer in range(layers)])
        self.asked = found[0] != NO_CLASS
        self.hits = (found == self.answer).astype(np.float64)  # [L + 1, n]
        requested = np.isin(arrays["rows"], forget.rows) & self.asked
        self.eval = requested & ~arrays["tune"]
        tune = requested & arrays["tune"]
        self.layer = 1 + int(self.hits[1:, tune].mean(axis=1).argmax()) if tune.any() else layers - 1

    @property
    def learnable(self) -> bool:
        """Whether any scored requested fact has an object that its relation's probe learns; True if none is scored."""
        arrays = self.arrays
        learnt = set(zip(arrays["train_relation"].tolist(), arrays["train_object"].tolist(), strict=True))
        asked = zip(arrays["relation"][self.eval].tolist(), self.answer[self.eval].tolist(), strict=True)
        return not self.eval.any() or any(pair in learnt for pair in asked)

    @property
    def forget_rows(self) -> Ids:
        """Probe rows of the scored requested facts."""
        return self.arrays["rows"][self.eval]

    def scored(self, layer: int | None = None) -> list[Part]:
        """Hits on the requested facts outside the tune slice."""
        return self._part(self.hits[self.layer if layer is None else layer], self.eval)

    def parts(self, splits: Sequence[Split]) -> list[Part]:
        """Hits on each of the splits outside its tune slice, where its relation has a probe."""
        return self._in_each(self.hits[self._clearest(splits)], splits, ~self.arrays["tune"])

    def selectivity(self, splits: Sequence[Split]) -> list[Part]:
        """These hits less those of a probe on shuffled objects."""
        layer = self._clearest(splits)
        control = self._predicted(layer, "train_control") == self.answer
        return self._in_each(self.hits[layer] - control, splits, ~self.arrays["tune"])

    def _clearest(self, splits: Sequence[Split]) -> int:
        """The block with most hits on the tune slices of the splits; the last one where these are empty."""
        tune = self.arrays["tune"]
        means = [[part.values.mean() for part in self._in_each(hits, splits, tune)] for hits in self.hits[1:]]
        return 1 + int(np.array(means).mean(axis=1).argmax()) if means[0] else len(means)

    def _in_each(self, values: NDArray[np.float64], splits: Sequence[Split], inside: NDArray[np.bool_]) -> list[Part]:
        rows, kept = self.arrays["rows"], self.asked & inside
        return [part for split in splits for part in self._part(values, np.isin(rows, split.rows) & kept)]

    def _part(self, values: NDArray[np.float64], inside: NDArray[np.bool_]) -> list[Part]:
        rows = self.arrays["rows"][inside]
        return [Part(values[inside], self.probes.cluster[rows])] if len(rows) else []

    def _predicted(self, layer: int, labels: str) -> Ids:
        """The object that the relation's probe sees in each row's states behind block `layer`: [n]."""
        arrays, position = self.arrays, self.metric.position
        found = np.full(len(arrays["rows"]), NO_CLASS, dtype=np.int64)
        train, test = arrays[f"train_{position}"][layer], arrays[position][layer]
        for relation in np.unique(arrays["train_relation"]):
            sample, rows = arrays["train_relation"] == relation, arrays["relation"] == relation
            if rows.any():
                found[rows] = predicted(train[sample], arrays[labels][sample], test[rows], self.metric.penalty)
        return found


def _averaged(models: Sequence[Sequence[Part]]) -> list[Part]:
    """The parts of a role's models, item by item averaged over them."""
    return [
        Part(np.mean([part.values for part in same], axis=0), same[0].cluster) for same in zip(*models, strict=True)
    ]


def _value(
    evaluation: Evaluation,
    parts: Mapping[Role, Sequence[Part]],
    direction: Literal["higher", "to_gold"] = "higher",
    share: bool = True,
) -> MetricValue:
    read = {role: mean_reading(found, evaluation.bootstrap, proportion=share) for role, found in parts.items()}
    return measured(read["edited"], UNIT, direction, base=read["base"], gold=read["gold"], undefined=NO_SAMPLE)
