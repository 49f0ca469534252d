"""The two ends of every scale, on real models: nothing done reads as the base, retraining as gold."""

from __future__ import annotations

import math

import pytest
from omegaconf import OmegaConf

from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.composition import Composer
from unlearn_cli.experiment import Experiment
from unlearn_cli.pipeline import run

# What is about the edit's own work, not about the model that it leaves.
OF_THE_EDIT = ("cost/",)
# What may differ between two copies of one model: nothing but this.
ROUNDING = 1e-6


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """`results(method)`: every metric, on tabular_tiny."""
    folder = tmp_path_factory.mktemp("ends")
    made = {}

    def of(method):
        if method not in made:
            words = ["world=tabular_tiny", "logger=none", f"method={method}", "metric=all", "edit.n=20"]
            values = Composer(parse([], config_dir())).compose([*words, "evaluate.facts=60"])
            own = {key: value for key, value in OmegaConf.to_container(values).items() if key != "hydra"}
            plain = OmegaConf.to_container(OmegaConf.create(own), resolve=True)
            plain["paths"] |= {"cache": str(folder / "cache"), "runs": str(folder / "runs")}
            plain["trainer"] |= {"accelerator": "cpu", "precision": "fp32", "progress": False}
            result = run(Experiment.from_config(plain))
            assert result.status == "ok", result.error
            made[method] = result.metrics
        return made[method]

    return of


def known(metrics, role):
    """Values that the edited model and another one have."""
    return {
        key: (item["value"], item[role]["value"], item["direction"])
        for key, item in metrics.items()
        if item["status"] == "ok" and item[role] is not None and not key.startswith(OF_THE_EDIT)
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", ["noop", "retrain"])
def test_no_metric_fails(results, method):
    failed = {key: item["reason"] for key, item in results(method).items() if item["status"] == "failed"}
    assert failed == {}


@pytest.mark.slow
def test_a_model_that_nothing_was_done_to_reads_as_the_base(results):
    off = {
        key: (mine, theirs)
        for key, (mine, theirs, _) in known(results("noop"), "base").items()
        if not math.isclose(mine, theirs, rel_tol=ROUNDING, abs_tol=ROUNDING)
    }
    assert off == {}


@pytest.mark.slow
def test_retraining_reads_as_gold_on_every_metric_that_asks_for_it(results):
    off = {
        key: (mine, theirs)
        for key, (mine, theirs, direction) in known(results("retrain"), "gold").items()
        if direction == "to_gold" and not math.isclose(mine, theirs, rel_tol=1e-5, abs_tol=1e-5)
    }
    assert off == {}


@pytest.mark.slow
def test_an_attack_gets_no_more_out_of_a_retrained_model_than_out_of_gold(results):
    excess = {
        key: item["value"]
        for key, item in results("retrain").items()
        if key.endswith("/excess") and item["status"] == "ok"
    }
    assert len(excess) > 5
    assert {key: value for key, value in excess.items() if abs(value) > 1e-6} == {}


@pytest.mark.slow
def test_what_was_not_removed_is_told_apart_from_what_was(results):
    """Nothing done: every reading of the requested facts that gold can tell apart from the base says so."""
    metrics = results("noop")
    keys = ["fact_accuracy/forget", "relearn_retain_only/forget", "quantization_4/forget", "logit_lens/forget"]
    for key in keys:
        assert metrics[key]["value"] > 0.8 > 0.3 > metrics[key]["gold"]["value"], key
    assert metrics["privleak"]["value"] < -80
    assert metrics["forget_quality/pvalue"]["value"] < 0.01
