"""Metrics under attack, read from a finished run's cache, against what the attack metrics themselves say of it."""

from pathlib import Path

import pytest

from unlearn_cli.analysis.attacked import changes
from unlearn_cli.analysis.runs import sorted_runs
from unlearn_cli.cli import main
from unlearn_cli.sweep.collect import read_runs

WORLD = ("subjects=20", "relations=2", "objects=5", "holdout_subjects=5", "grammar.templates=2", "grammar.heldout=1")
MODEL = ("hidden_size=32", "heads=2", "mlp_size=64")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacked")
    words = [
        *("world=tabular_tiny", "edit.n=4", "method=npo", "method.steps=5", "logger=none", "train.batch_size=20"),
        *(f"world.{word}" for word in WORLD),
        *(f"model.{word}" for word in MODEL),
        *("gold.n=2", "train.min_recall=0", "train.decay_passes=10", "train.max_passes=10", "method.retain_batch=8"),
        "metric=[fact_accuracy,candidate_accuracy,answer_rank,relearn_few_forget,quantization_4]",
        "metric.relearn_few_forget.n=2",
        "evaluate.bootstrap_samples=10",
        *("trainer.progress=false", "trainer.side_by_side=false", "trainer.accelerator=cpu"),
        *(f"paths.cache={folder}/cache", f"hydra.run.dir={folder}/run"),
    ]
    assert main(words) == 0
    ((found,), left) = sorted_runs(read_runs([Path(folder) / "run"]))
    assert left == []
    return found


@pytest.mark.parametrize(
    ("wanted", "attack"), [({"facts": "few_forget"}, "relearn_few_forget"), ({"bits": 4}, "quantization_4")]
)
def test_candidate_accuracy_is_the_attacks_own_measure(run, wanted, attack):
    found = changes(run.result, wanted)["candidate_accuracy/forget"]
    for role, change in (("value", found.edited), ("gold", found.gold)):
        assert change.after == pytest.approx(run.value(f"{attack}/forget", role))
        assert change.after - change.before == pytest.approx(run.value(f"{attack}/gain", role))


def test_all_items_unless_the_attacker_was_told(run):
    """Rounding is asked of all requested facts: before it every metric has its own value."""
    found = changes(run.result, {"bits": 4})
    assert set(found) == {"fact_accuracy/forget", "candidate_accuracy/forget", "answer_rank/forget"}
    for key, change in found.items():
        assert change.edited.before == pytest.approx(run.value(key))
    assert changes(run.result, {"bits": 3}) == {}
