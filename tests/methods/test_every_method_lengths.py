"""Every method of conf/method, as shipped, where objects differ in their number of tokens."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
from experiments import quick
from mixed import MixedTabular
from omegaconf import OmegaConf

from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.composition import Composer
from unlearn_cli.edits.forget import Forget
from unlearn_cli.edits.remap import Remap
from unlearn_cli.experiment import Gold, parts
from unlearn_cli.metrics.fact_accuracy import FactAccuracy
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.pipeline import run
from unlearn_cli.training.recipe import Train
from unlearn_cli.worlds.grammar import Grammar
from unlearn_cli.yaml_docs import groups

METHODS = [name for name in groups([config_dir()])["method"] if name != "checkpoint"]  # that is somebody else's model
WRITE = ["ft", "ft_l", "rome", "memit", "emmet", "alphaedit", "grace", "retrain"]
SMALL, WIDE = GPTNeoX(hidden_size=32, heads=2, mlp_size=64), GPTNeoX(hidden_size=128, heads=4, mlp_size=512)
WORLD = MixedTabular(
    subjects=40,
    relations=2,
    objects=5,
    holdout_subjects=3,
    object_tokens=3,
    grammar=Grammar(templates=2, heldout=1, fillers=2),
)


@cache
def shipped(name):
    values = OmegaConf.to_container(Composer(parse([], config_dir())).compose([f"method={name}"]), resolve=False)
    del values["hydra"]
    return parts(OmegaConf.to_container(OmegaConf.create(values), resolve=True))["method"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lengths")


def found(folder, name, edit, model):
    metric = {"fact_accuracy": FactAccuracy()}
    start = quick(folder, world=WORLD, edit=edit, method=shipped(name), metric=metric, model=model)
    train = Train(batch_size=20, matrix_lr=0.02, decay_passes=150.0, max_passes=150.0, check_every=10, min_recall=0.9)
    made = run(replace(start, train=train, gold=Gold(n=int(name == "retrain"))))
    assert made.status == "ok", made.error
    values = {key: entry for key, entry in made.metrics.items() if entry["status"] == "ok"}
    assert all(math.isfinite(entry["value"]) for entry in values.values())
    return values


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in METHODS if name != "ft"])
def test_it_runs(folder, name):
    assert found(folder, name, Forget(n=4), SMALL)["fact_accuracy/forget"]["base"]["value"] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITE)
def test_it_writes_targets_of_other_lengths(folder, name):
    accuracy = found(folder, name, Remap(n=2, distinct=False), WIDE)["fact_accuracy/edited"]
    assert accuracy["base"]["value"] < 0.3 and accuracy["value"] > 0.8
