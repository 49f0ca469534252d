"""One contract for every method of conf/method: as shipped it does what it is for, and not by destroying the model."""

from __future__ import annotations

import math
from functools import cache

import pytest
from omegaconf import OmegaConf

from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.composition import Composer
from unlearn_cli.experiment import Experiment
from unlearn_cli.pipeline import run
from unlearn_cli.yaml_docs import groups

METHODS = [name for name in groups([config_dir()])["method"] if name != "checkpoint"]  # that is somebody else's model
CONTROLS = {"noop", "random_direction", "finetune", "l1_sparse"}  # which are not to reach what is asked
EDITORS = {"ft", "ft_l", "rome", "memit", "emmet", "alphaedit", "mend", "grace", "retrain"}  # which write what is asked
BREAKS = {"prompt_guard"}  # a prefix is nothing that these models can read: the numbers must say so
KEEPS = 0.5  # share of the unseen retain facts, below which a model is broken rather than edited


@cache
def experiment(folder, method, edit):
    words = ["world=tabular_tiny", "logger=none", f"method={method}", *edit, f"gold.n={int(method == 'retrain')}"]
    values = Composer(parse([], config_dir())).compose([*words, "metric=[fact_accuracy,candidate_mass]"])
    own = {key: value for key, value in OmegaConf.to_container(values).items() if key != "hydra"}
    plain = OmegaConf.to_container(OmegaConf.create(own), resolve=True)
    plain["paths"] |= {"cache": str(folder / "cache"), "runs": str(folder / "runs")}
    plain["trainer"] |= {"accelerator": "cpu", "precision": "fp32", "progress": False}
    return Experiment.from_config(plain)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("every")


def values(folder, method, edit):
    made = run(experiment(folder, method, edit))
    assert made.status == "ok", made.error
    found = {key: entry for key, entry in made.metrics.items() if entry["status"] == "ok"}
    assert all(math.isfinite(entry["value"]) for entry in found.values())
    assert found["fact_accuracy/forget"]["base"]["value"] > 0.95
    return found


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHODS if name != "ft"])
def test_it_forgets_what_it_is_asked_to(folder, method):
    found = values(folder, method, ("edit=forget", "edit.n=20"))
    forget, kept = found["fact_accuracy/forget"], found["fact_accuracy/retain/unseen"]
    if method == "noop":
        assert (forget["value"], kept["value"]) == (forget["base"]["value"], kept["base"]["value"])
        return
    if method in BREAKS:
        assert kept["value"] < KEEPS < kept["base"]["value"]
        return
    assert kept["value"] > KEEPS, "the model is broken"
    if method not in CONTROLS:
        assert forget["value"] < 0.7


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHODS if name in EDITORS])
@pytest.mark.parametrize("edit", ["remap", "refuse", "permute"])
def test_an_editor_writes_what_it_is_asked_to(folder, method, edit):
    size = {"remap": 4, "refuse": 8, "permute": 8}[edit]
    found = values(folder, method, (f"edit={edit}", f"edit.n={size}"))
    assert found["fact_accuracy/edited"]["base"]["value"] < 0.1
    assert found["fact_accuracy/edited"]["value"] > 0.8
    assert found["fact_accuracy/retain/unseen"]["value"] > KEEPS


@pytest.mark.slow
def test_a_broken_model_is_told_from_one_that_forgot(folder):
    """Gradient ascent without end: accuracy on the requested facts is 0, and so is everything else."""
    words = ("edit=forget", "method.steps=200", "method.lr=1e-2", "method.retain_loss=none", "method.retain_weight=0.0")
    found = values(folder, "ga", words)
    assert found["fact_accuracy/forget"]["value"] < 0.1
    assert found["fact_accuracy/retain/unseen"]["value"] < 0.2
