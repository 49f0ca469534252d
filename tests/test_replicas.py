"""Replicas: other models of the same world, request and probes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from experiments import quick
from fake_result import entry, fake_result

from unlearn_cli.cache import Cache
from unlearn_cli.errors import ConfigError
from unlearn_cli.evaluation import OTHER
from unlearn_cli.experiment import Experiment, parts
from unlearn_cli.methods.noop import Noop
from unlearn_cli.metrics.fact_accuracy import FactAccuracy
from unlearn_cli.pipeline import run
from unlearn_cli.predict import load
from unlearn_cli.report.sweep_table import table
from unlearn_cli.result_schema import validate
from unlearn_cli.results import Result
from unlearn_cli.stages import all_stages, edit_stage, predict_stage, shadow_stage
from unlearn_cli.streams import derive
from unlearn_cli.study import Study
from unlearn_cli.sweep.collect import tidy
from unlearn_cli.sweep.record import Entry, Outcome


def digests(**changes):
    return {stage.name: stage.digest for stage in all_stages(Study.of(quick(Path("x"), **changes)))}


def test_the_first_replica_has_the_digests_from_before_there_were_any():
    """As they were computed by the version without replicas: what it left in caches is found."""
    found = digests()
    before = {"train": "9a34a14f327da6d4", "gold": "cc77650e2b2e1cc9", "edit": "516244e850f639e1"}
    assert {name: found[name] for name in before} == before
    assert digests(replica=0) == found


def test_every_stage_of_another_replica_is_another_one():
    first, second, third = (digests(replica=replica) for replica in range(3))
    for name in first:
        assert len({first[name], second[name], third[name]}) == 3


def test_shadows_are_shared_by_all_replicas():
    first, second = (Study.of(quick(Path("x"), replica=replica)) for replica in (0, 1))
    assert shadow_stage(first, 0) == shadow_stage(second, 0)


def test_the_methods_own_seed():
    first, second = (Study.of(quick(Path("x"), seed=3, replica=replica)) for replica in (0, 2))
    assert (first.method_seed, second.method_seed) == (3, derive(3, "replica", 2))
    assert edit_stage(second).inputs["seed"] == second.method_seed


def test_it_is_a_whole_number():
    assert parts({"replica": 2}) == {"replica": 2}
    with pytest.raises(ConfigError, match="replica: -1 given; expected a whole number >= 0"):
        parts({"replica": -1})
    with pytest.raises(ConfigError, match="did you mean replica"):
        parts({"replca": 1})


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replicas")
    experiments = [
        quick(folder, replica=replica, method=Noop(), metric={"fact_accuracy": FactAccuracy()}) for replica in (0, 1)
    ]
    return experiments, [run(experiment) for experiment in experiments]


def answers(experiment: Experiment, stage_of_model: str):
    study = Study.of(experiment)
    (model,) = [stage for stage in all_stages(study) if stage.name == stage_of_model]
    found = Cache(Path(experiment.paths.cache)).find(predict_stage(study, model))
    assert found
    return load(found.path / "predictions.npz")


def test_world_request_and_probes_are_the_same_and_the_models_are_not(twins):
    experiments, results = twins
    first, second = map(Study.of, experiments)
    assert [result.status for result in results] == ["ok", "ok"]
    assert first.world.facts.sha256() == second.world.facts.sha256()
    assert len({(result.run_dir / "request.json").read_text() for result in results}) == 1
    np.testing.assert_array_equal(first.pool, second.pool)
    for name in ("fact", "template", "subject"):
        np.testing.assert_array_equal(getattr(first.probes, name), getattr(second.probes, name))
    for model in ("train", "gold"):
        mine, theirs = (answers(experiment, model) for experiment in experiments)
        assert np.abs(np.exp(mine.candidate_logps) - np.exp(theirs.candidate_logps)).max() > 0.1


def test_the_order_of_the_deck_and_the_initial_weights_differ(twins):
    """Not of one replica's models alone: gold's streams are others than the base's in both."""
    experiments, _ = twins
    world = Study.of(experiments[0]).world
    decks = [world.deck(*purpose).deal(0, 20).facts for purpose in (("base",), ("base", "replica", 1), ("gold", 0))]
    assert len({tuple(deck) for deck in decks}) == 3
    assert OTHER not in decks[0]


def test_the_result_names_it(twins):
    _, results = twins
    stored = json.loads((results[1].run_dir / "result.json").read_text())
    assert (stored["seed"], stored["replica"]) == (0, 1)
    assert Result.read(results[1].run_dir / "result.json").replica == 1
    assert "replica 1" in results[1].table() and "replica" not in results[0].table()


def test_a_result_that_does_not_name_it_is_of_the_first(tmp_path):
    stored = fake_result().to_dict()
    del stored["replica"]
    assert validate(stored) == []
    (tmp_path / "result.json").write_text(json.dumps(stored))
    assert Result.read(tmp_path / "result.json").replica == 0


def test_a_sweep_has_a_column_for_it_and_counts_it_as_a_repetition(tmp_path):
    outcomes = []
    for replica, value in ((0, 0.2), (3, 0.4)):
        label = f"method=npo replica={replica}"
        result = replace(fake_result(tmp_path), replica=replica, metrics={"fact_accuracy/forget": entry(value, 1.0)})
        outcomes.append(Outcome(Entry(0, label, label.split(), "0", []), "ok", result=result))
    assert tidy(outcomes)["replica"].to_pylist() == [0, 3]
    line = table(outcomes).splitlines()[1].split()
    assert line[:3] == ["method=npo", "2/2", "0.300"]
