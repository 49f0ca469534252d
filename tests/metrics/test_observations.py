"""What must hold of every observation that a metric of conf/metric asks for, on small untrained models."""

import copy
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from experiments import quick
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn_cli.config import build
from unlearn_cli.metrics.base import Metric
from unlearn_cli.observations.base import Unobservable
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study

CONF = Path(__file__).parents[2] / "conf"


def asked_for():
    """Every observation of conf/metric, by the metric's name."""
    found = {}
    for path in sorted((CONF / "metric").glob("*.yaml")):
        if "_target_: " not in path.read_text():
            continue
        with initialize_config_dir(str(CONF), version_base="1.3"):
            node = OmegaConf.to_container(compose("config", overrides=[f"metric={path.stem}"]).metric, resolve=True)
        metric = build(node[path.stem], f"metric.{path.stem}", Metric)
        found |= {f"{path.stem}-{i}": item for i, item in enumerate(metric.observations) if item not in found.values()}
    return found


OBSERVATIONS = asked_for()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study.of(quick(tmp_path_factory.mktemp("observed")))


def neox(study):
    return study.experiment.model.build(study.world.vocabulary.size, study.world.max_length, 0).eval()


def llama(study):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=study.world.vocabulary.size,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=64,
        )
        return LlamaForCausalLM(config).eval()


def observed(observation, model, study, batch_size=512):
    beside = {role: copy.deepcopy(model) for role in observation.beside}
    scene = replace(scene_of(study, beside), batch_size=batch_size)
    try:
        return dict(observation.observe(copy.deepcopy(model), scene))
    except Unobservable as reason:
        assert str(reason)
        return {}


def ambient():
    name, state, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), name, state.tolist(), rest, random.getstate()


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_it_is_a_function_of_the_model_and_the_scene(name, study):
    observation, model = OBSERVATIONS[name], neox(study)
    first = observed(observation, model, study)
    before = ambient()
    second = observed(observation, model, study)
    assert ambient() == before, "the ambient random state was used"
    assert first.keys() == second.keys()
    for key, array in first.items():
        assert isinstance(array, np.ndarray)
        assert array.dtype != object
        np.testing.assert_array_equal(array, second[key])


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_batches_change_nothing_beyond_rounding(name, study):
    observation, model = OBSERVATIONS[name], neox(study)
    whole, parts = observed(observation, model, study), observed(observation, model, study, batch_size=7)
    for key, array in whole.items():
        np.testing.assert_allclose(array.astype(float), parts[key].astype(float), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_it_works_on_another_architecture(name, study):
    for array in observed(OBSERVATIONS[name], llama(study), study).values():
        assert array.dtype.kind in "biuf"
