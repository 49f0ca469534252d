"""What no observation may depend on or leave behind, each really taken of a small model.

Rows with more padding give the same arrays (U4; batches: test_observations.py); weights, mode, gradients and hooks of
the model that is handed out as a copy, the ambient random state and torch's modes are as before (U7).
"""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from every_metric import STEMS, metric
from experiments import quick
from small_models import neox

from unlearn_cli.edits.forget import Forget
from unlearn_cli.experiment import Retain
from unlearn_cli.observations.base import Unobservable
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study
from unlearn_cli.worlds.language import Language
from unlearn_cli.worlds.tabular import Nested
from unlearn_cli.worlds.vocabulary import PADDING

pytestmark = pytest.mark.slow

MORE = 3  # columns of padding
NOT_HERE = {  # nothing is observed of so small a world
    "paraphrase_reordered-0",  # its grammar has no order that is never trained
    "fewshot_10-0",  # its relations have no ten retain facts; as fewshot_5
    "pando_field_f1-0",  # it has no rules
    "text_perplexity-0",  # it names no text
}


def asked_for():
    """Every observation of conf/metric, under the name of the first metric that asks for it."""
    found = {}
    for stem in STEMS:
        for i, item in enumerate(metric(stem).observations):
            if item not in found.values():
                found[f"{stem}-{i}"] = item
    return found


OBSERVATIONS = asked_for()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    start = quick(tmp_path_factory.mktemp("invariant"), edit=Forget(n=12))
    world = replace(start.world, relations=4, objects=4, nested=Nested(objects=2))
    model = replace(start.model, max_positions=256)
    return Study.of(replace(start, world=world, model=model, retain=Retain(pool=0.8)))


def observed(observation, model, scene):
    """The arrays, or None where there is nothing to observe."""
    try:
        return dict(observation.observe(model, scene))
    except Unobservable:
        return None


def beside(observation, study, seed=1):
    return replace(scene_of(study), beside={role: neox(study, seed) for role in observation.beside})


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_padding_changes_nothing_beyond_rounding(name, study, monkeypatch):
    observation = OBSERVATIONS[name]
    plain = observed(observation, neox(study), beside(observation, study))
    assert (plain is None) == (name in NOT_HERE)
    write = Language.write

    def padded(self, *args, **more):
        sentences = write(self, *args, **more)
        ids = np.pad(sentences.input_ids, ((0, 0), (0, MORE)), constant_values=PADDING)
        return replace(sentences, input_ids=ids)

    width = study.world.sentences(np.arange(2), np.zeros(2, dtype=int)).input_ids.shape[1]
    monkeypatch.setattr(Language, "write", padded)
    assert study.world.sentences(np.arange(2), np.zeros(2, dtype=int)).input_ids.shape[1] == width + MORE
    wide = observed(observation, neox(study), beside(observation, study))
    assert (plain is None) == (wide is None)
    for key, array in (plain or {}).items():
        same = wide[key][tuple(slice(size) for size in array.shape)]  # arrays over tokens are wider
        np.testing.assert_allclose(array.astype(float), same.astype(float), atol=1e-4, rtol=1e-4, err_msg=key)


def left_behind(model):
    """All of a model that an observation could leave changed."""
    return {
        "weights": {key: tensor.clone() for key, tensor in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "gradients": [(p.requires_grad, p.grad is None) for p in model.parameters()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
    }


def ambient():
    name, numbers, *rest = np.random.get_state()
    drawn = (torch.get_rng_state().tolist(), name, numbers.tolist(), rest, random.getstate())
    return drawn, torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()


def assert_same(before, after):
    assert all(torch.equal(tensor, after["weights"][key]) for key, tensor in before["weights"].items())
    for part in ("modes", "gradients", "hooks"):
        assert before[part] == after[part], part


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_nothing_is_left_behind(name, study):
    """As the pipeline does it: the observation gets a copy. Those that only ask leave the copy as it was, too."""
    observation, model = OBSERVATIONS[name], neox(study)
    scene = beside(observation, study)
    others = {role: left_behind(other) for role, other in scene.beside.items()}
    before, around, handed = left_behind(model), ambient(), copy.deepcopy(model)
    observed(observation, handed, scene)
    assert ambient() == around
    assert_same(before, left_behind(model))
    if observation.guarded:
        assert_same(before, left_behind(handed))
    for role, kept in others.items():
        assert_same(kept, left_behind(scene.beside[role]))
