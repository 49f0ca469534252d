"""The metrics whose observations read answers, on a world whose objects differ in their number of tokens."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from experiments import quick
from mixed import MixedTabular
from omegaconf import OmegaConf

from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.composition import Composer
from unlearn_cli.experiment import parts
from unlearn_cli.pipeline import run
from unlearn_cli.training.recipe import Train
from unlearn_cli.worlds.grammar import Grammar

GRAMMAR = Grammar(templates=2, heldout=1, fillers=2)
WORLD = MixedTabular(subjects=40, relations=2, objects=5, holdout_subjects=3, object_tokens=3, grammar=GRAMMAR)
ANSWERS = [
    "activation_patching",
    "causal_trace",
    "concept_vectors",
    "embedding_attack",
    "extraction_strength",
    "fewshot_1",
    "fisher_drift",
    "logit_lens",
    "mcq_accuracy",
    "memorization_accuracy",
    "mia_gradnorm",
    "mia_min_k",
    "output_validity",
    "relearn_retain_only",
    "truth_ratio",
]


@pytest.mark.slow
def test_they_have_values(tmp_path):
    composed = Composer(parse([], config_dir())).compose([f"metric=[{','.join(ANSWERS)}]"])
    values = OmegaConf.to_container(composed, resolve=False)
    del values["hydra"]
    metric = parts(OmegaConf.to_container(OmegaConf.create(values), resolve=True))["metric"]
    train = Train(batch_size=20, matrix_lr=0.02, decay_passes=150.0, max_passes=150.0, check_every=10, min_recall=0.9)
    made = run(replace(quick(tmp_path, world=WORLD, metric=metric), train=train))
    assert made.status == "ok", made.error
    found = {key: entry["value"] for key, entry in made.metrics.items() if entry["status"] == "ok"}
    assert all(math.isfinite(value) for value in found.values())
    silent = [name for name in ANSWERS if name != "fewshot_1" and not any(name in key for key in found)]
    assert silent == []  # of fewshot_1 this base knows too little
