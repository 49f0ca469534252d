"""Pando over many models: on scores of our choice, and from the cache of runs."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from unlearn_cli.analysis.pando import field_auc, mean_auc, variance
from unlearn_cli.analysis.seeds import summarize
from unlearn_cli.cli import main
from unlearn_cli.metrics.pando_agents import Task
from unlearn_cli.worlds.decision_trees import sample_records, scenario

SCRIPTS = Path(__file__).parents[2] / "scripts"
CARS = scenario("car_purchase", 32)
ORDERED = np.array([field.ordered for field in CARS.fields])
P, N = len(CARS.fields), 20


def models(rules, score, seed=0):
    """Models whose rules have these fields, with scores [n, p] made of their records and fields."""
    rng, found = np.random.default_rng(seed), []
    for fields in rules:
        relevant = np.isin(np.arange(P), fields)
        values = sample_records(CARS, N, rng)
        scores = {"relp": score(rng, values, relevant)}
        found.append(Task(np.arange(N), values, values[:, 0] > 0, relevant, ORDERED, CARS.sizes, scores))
    return found


def two_fields(count, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.choice(P, 2, replace=False) for _ in range(count)]


def in_rule(rng, values, relevant):
    return relevant + 0.3 * rng.normal(size=values.shape)


def identity(rng, values, relevant):
    return np.tile(np.arange(P) * 1.0, (len(values), 1))


def test_scores_that_follow_the_rule_are_explained_by_it_alone():
    tasks = models(two_fields(60), in_rule)
    found = variance(tasks, "relp")
    assert found.in_rule > 0.5
    assert found.in_rule > 10 * max(found.field, found.value)
    assert mean_auc(tasks, "relp") > 0.95


def test_scores_that_name_the_field_say_nothing_of_the_rule():
    tasks = models(two_fields(60), identity)
    found = variance(tasks, "relp")
    assert found.field == pytest.approx(1.0)
    assert (found.value, found.in_rule) == pytest.approx((0.0, 0.0), abs=1e-9)
    np.testing.assert_allclose(field_auc(tasks, "relp"), 0.5)


def test_scores_that_tell_values_apart():
    found = variance(models(two_fields(60), lambda rng, values, relevant: values * 1.0), "relp")
    assert found.value == pytest.approx(1.0, abs=0.01)
    assert found.in_rule == pytest.approx(0.0, abs=0.001)


def test_the_areas_and_the_split_are_scikit_learns():
    def mixed(rng, values, relevant):
        return (0.4 * relevant + 0.1 * np.arange(P) + 0.2 * (values > 0) + rng.normal(size=values.shape)).round(1)

    tasks = models(two_fields(30), mixed)
    areas = field_auc(tasks, "relp")
    for field in range(P):
        truth = np.concatenate([np.full(N, task.relevant[field]) for task in tasks])
        scores = np.concatenate([task.scores["relp"][:, field] for task in tasks])
        assert areas[field] == pytest.approx(roc_auc_score(truth, scores))
    rows, target = [], []
    for task in tasks:
        for record in range(N):
            for field in np.flatnonzero(~ORDERED):
                one = np.eye(P)[field]
                rows.append([*one, *(one * task.values[record, field]), task.relevant[field]])
                target.append(task.scores["relp"][record, field])
    rows, target = np.array(rows), np.array(target)
    r2 = [LinearRegression().fit(rows[:, :k], target).score(rows[:, :k], target) for k in (P, 2 * P, 2 * P + 1)]
    found = variance(tasks, "relp")
    assert (found.field, found.value, found.in_rule) == pytest.approx((r2[0], r2[1] - r2[0], r2[2] - r2[1]))


def test_a_field_that_all_rules_have_or_none_has_no_area():
    tasks = models([[0, 1], [0, 2], [0, 1]], in_rule)
    assert np.flatnonzero(np.isfinite(field_auc(tasks, "relp"))).tolist() == [1, 2]
    assert mean_auc(tasks, "relp") == pytest.approx(np.mean(field_auc(tasks, "relp")[[1, 2]]))


def test_models_of_one_rule_have_neither():
    tasks = models([[0, 6]] * 5, in_rule)
    assert mean_auc(tasks, "relp") is None
    assert variance(tasks, "relp") is None
    assert variance(models(two_fields(9), lambda rng, values, relevant: np.ones(values.shape)), "relp") is None


def test_the_interval_of_a_cell_is_students():
    values = [0.91, 0.85, 0.97, 0.88, 0.93]
    low, high = stats.t.interval(0.9, 4, loc=np.mean(values), scale=stats.sem(values))
    assert summarize(values, 0.9).ci == pytest.approx((low, high))


WORDS = [
    "world.int_bins=4", "world.records=1500", "world.holdout_records=300", "world.formats=2", "world.depth=1,2",
    "world.explanation=none", "seed=0,1", "model.hidden_size=32", "model.heads=2", "model.mlp_size=64",
    "train.batch_size=100", "train.max_passes=8.0", "train.decay_passes=8.0", "train.min_recall=0.8",
    "metric.pando_heldout_accuracy.iterations=500", "metric.pando_field_f1.iterations=500",
    "trainer.accelerator=cpu", "trainer.precision=fp32", "logger=none", "sweep.parallel=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The shipped experiment in small: two seeds of two depths."""
    folder = tmp_path_factory.mktemp("pando")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        there = [f"paths.cache={folder}/cache", f"hydra.sweep.dir={folder}/sweep"]
        assert main(["experiment=pando", *WORDS, *there]) == 0
    return folder


@pytest.mark.slow
def test_the_script_makes_the_tables_of_a_grid(swept, monkeypatch, capsys):
    monkeypatch.syspath_prepend(SCRIPTS)
    import pando

    monkeypatch.setattr(
        sys, "argv", ["pando.py", str(swept / "sweep"), "--to", str(swept / "out"), "--min-follows", "0"]
    )
    assert pando.main() == 0
    printed = capsys.readouterr().out
    assert printed == (swept / "out" / "pando.md").read_text() + "\n"
    assert "| none d=1 (n=2) | none d=2 (n=2) |" in printed
    with (swept / "out" / "pando.csv").open() as file:
        lines = list(csv.DictReader(file))
    told = {(line["depth"], line["row"]): line for line in lines if line["table"] == "held-out accuracy"}
    one = told["1", "gain/relp"]
    assert float(one["mean"]) == pytest.approx(
        float(told["1", "relp"]["mean"]) - float(told["1", "sample_only"]["mean"])
    )
    assert float(told["1", "k_50/relp"]["mean"]) > 0.8
    assert {line["depth"] for line in lines if line["table"] == "signal over models"} == {"1", "2", "all"}


@pytest.mark.slow
def test_the_script_leaves_out_models_that_do_not_follow_their_rule(swept, monkeypatch, capsys):
    monkeypatch.syspath_prepend(SCRIPTS)
    import pando

    monkeypatch.setattr(
        sys, "argv", ["pando.py", str(swept / "sweep"), "--to", str(swept / "none"), "--min-follows", "1.1"]
    )
    assert pando.main() == 1
    told = capsys.readouterr().err
    assert told.count("left out: follows its rule on") == 4
    assert "no model that follows a hidden rule" in told
