"""Observations as stages of a run: copies, caching, and what an error costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from experiments import quick

from unlearn_cli.component import component
from unlearn_cli.evaluation import Reading
from unlearn_cli.experiment import Gold
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.fact_accuracy import FactAccuracy
from unlearn_cli.metrics.readings import measured
from unlearn_cli.observations.base import Observation, Unobservable
from unlearn_cli.pipeline import run


@component
class Norm(Observation):
    """Sum of squares of all weights, which are then destroyed."""

    VERSION: ClassVar[int] = 1
    name: str = "first"
    on_edited: str = "fine"  # fine | nothing | error

    def observe(self, model: Any, scene: Any) -> dict[str, np.ndarray]:
        total = sum(float(p.detach().double().square().sum()) for p in model.parameters())
        for parameter in model.parameters():
            parameter.data.zero_()
        if scene.request.op == "forget" and self.on_edited == "nothing":
            raise Unobservable("there is nothing to see")
        if self.on_edited == "error":
            raise ZeroDivisionError("by a defect")
        return {"norm": np.array([total])}


@component
class NormMetric(Metric):
    VERSION: ClassVar[int] = 1
    needs: ClassVar = frozenset({"edited"})
    observation: Norm = Norm()

    @property
    def observations(self):
        return (self.observation,)

    def compute(self, evaluation):
        read = {
            role: Reading(float(np.mean([arrays["norm"] for arrays in evaluation.seen(self.observation, role)])), 1)
            for role in ("edited", "base", "gold")
        }
        return {
            f"norm/{self.observation.name}": measured(
                read["edited"], "", "descriptive", base=read["base"], gold=read["gold"]
            )
        }


def metrics(*observations):
    made = {f"norm_{item.name}": NormMetric(observation=item) for item in observations}
    return {**made, "fact_accuracy": FactAccuracy()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("observing")


def test_each_observation_gets_a_copy_of_its_own(folder):
    found = run(quick(folder, metric=metrics(Norm(), Norm(name="second")))).metrics
    assert found["norm/first"]["value"] > 0
    for role in ("base", "gold"):
        assert found["norm/first"][role] == found["norm/second"][role]
    assert found["norm/first"]["value"] == found["norm/second"]["value"] != found["norm/first"]["base"]["value"]


def test_base_and_gold_are_observed_once_for_all_methods(folder):
    first = run(quick(folder, metric=metrics(Norm())))
    again = run(quick(folder, metric=metrics(Norm())))
    other = run(quick(folder, metric=metrics(Norm()), method=first_method(folder, steps=6)))
    assert all(item["cached"] for item in again.stages["evaluate"]["observations"])
    assert again.metrics == first.metrics
    cached = {item["label"]: item["cached"] for item in other.stages["evaluate"]["observations"]}
    assert sorted(cached.values()) == [False, True, True]
    assert [label for label, found in cached.items() if not found] == ["tabular-npo-edit-Norm"]


def first_method(folder, steps):
    return replace(quick(folder).method, steps=steps)


def test_two_metrics_share_an_observation(folder):
    shared = {"one": NormMetric(), "two": NormMetric(), "fact_accuracy": FactAccuracy()}
    assert len(run(quick(folder, metric=shared)).stages["evaluate"]["observations"]) == 3  # base, edited, gold


def test_nothing_to_observe_skips_the_metric_with_its_reason(folder):
    found = run(quick(folder, metric=metrics(Norm(on_edited="nothing"))))
    assert found.status == "ok"
    assert (found.metrics["norm_first"]["status"], found.metrics["norm_first"]["reason"]) == (
        "skipped",
        "there is nothing to see",
    )


def test_an_error_costs_the_metrics_that_read_it_and_is_tried_again(folder):
    broken = quick(folder, metric=metrics(Norm(on_edited="error"), Norm(name="second")))
    found = run(broken)
    assert found.status == "ok"
    assert found.metrics["norm_first"]["status"] == "failed"
    assert found.metrics["norm_first"]["reason"] == "ZeroDivisionError: by a defect"
    assert found.metrics["norm/second"]["status"] == "ok"
    assert found.metrics["fact_accuracy/forget"]["status"] == "ok"
    labels = [item["label"] for item in found.stages["evaluate"]["observations"]]
    assert len(labels) == 3, "the failed ones left no artifact"


def test_where_each_request_has_a_model_of_its_own_nothing_is_observed(folder):
    start = quick(folder, metric=metrics(Norm()), gold=Gold(n=0))
    found = run(replace(start, edit=replace(start.edit, schedule="independent")))
    assert found.status == "ok", found.error
    assert found.metrics["norm_first"]["status"] == "skipped"
    assert "edited model of its own" in found.metrics["norm_first"]["reason"]
