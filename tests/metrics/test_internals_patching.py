"""Activation patching: the worked numbers of the score, and its ends on real models."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from doubles import evaluation, oracle, world
from experiments import quick

from unlearn_cli.methods.noop import Noop
from unlearn_cli.metrics.activation_patching import ActivationPatching, depth
from unlearn_cli.observations.patched import Patched
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study

PROBES, OLD = world()
ROWS = PROBES.splits["forget"].rows


def test_the_score_by_hand():
    """Gold's drops (1, .5, .03): the last block does not count; (1 x .5 + .5 x 1) / 1.5."""
    gold, edited = np.array([[1.0], [0.5], [0.03]]), np.array([[0.5], [0.6], [0.9]])
    score, there = depth(edited, gold, 0.05)
    assert there.tolist() == [True]
    assert score[0] == pytest.approx(2 / 3)
    assert depth(gold, gold, 0.05)[0][0] == 1
    assert depth(np.zeros((3, 1)), gold, 0.05)[0][0] == 0
    assert depth(-edited, gold, 0.05)[0][0] == 0  # surer than the base is not less than intact
    assert not depth(edited, np.full((3, 1), 0.05), 0.05)[1].any()


def patched(drops, restored=0.5):
    """What patching leaves: the base is sure of everything, and block l costs drops[l]."""
    n = len(ROWS)
    drops = np.repeat(np.array(drops, dtype=np.float32)[:, None], n, axis=1)
    return {
        "rows": ROWS,
        "base": np.zeros(n),
        "own": -drops[-1],
        "patched": -drops,
        "restored": 0 * drops + np.log(0.5),
    }


def read(edited, gold):
    start = evaluation(PROBES, oracle(OLD), oracle(OLD), (oracle(OLD),))
    seen = {("edited", Patched()): (edited,), ("gold", Patched()): gold}
    values = ActivationPatching().compute(replace(start, observed=seen))
    return {name.split("/")[1]: value for name, value in values.items()}


def test_the_metric_averages_items_and_golds():
    found = read(patched([0.5, 0.6, 0.9]), (patched([0.8, 0.4, 0.01]), patched([1.2, 0.6, 0.05])))
    assert found["uds"].edited.value == pytest.approx(2 / 3)
    assert found["uds"].items["edited"] == pytest.approx(np.full(len(ROWS), 2 / 3))
    assert found["skipped"].edited.value == 0
    assert found["drop_2"].edited.value == pytest.approx(0.6)
    assert found["drop_2"].gold.value == pytest.approx(0.5)
    assert (found["restored_1"].edited.value, found["restored_1"].base.value) == (pytest.approx(0.5), 1)


def test_without_gold_or_knowledge_there_is_no_score():
    assert read(patched([1.0]), ())["uds"].status == "skipped"
    found = read(patched([1.0]), (patched([0.01]),))
    assert found["uds"].status == "skipped"
    assert found["skipped"].edited.value == 1


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study.of(quick(tmp_path_factory.mktemp("patched"), method=Noop()))


def neox(study, seed):
    return study.experiment.model.build(study.world.vocabulary.size, study.world.max_length, seed).eval()


def test_patching_oneself_changes_nothing_and_the_last_block_carries_the_answer(study):
    base, other = neox(study, 0), neox(study, 1)
    scene = replace(scene_of(study), beside={"base": base})
    same = Patched().observe(copy.deepcopy(base), scene)
    np.testing.assert_allclose(same["patched"], np.broadcast_to(same["base"], same["patched"].shape), atol=1e-5)
    np.testing.assert_allclose(same["restored"], same["patched"], atol=1e-5)
    found = Patched().observe(other, scene)
    assert np.abs(found["patched"][0] - found["base"]).max() > 1e-2
    # the base's decoder on the other model's last states, and the other way round
    mixed = copy.deepcopy(other)
    mixed.gpt_neox.final_layer_norm.load_state_dict(base.gpt_neox.final_layer_norm.state_dict())
    mixed.get_output_embeddings().load_state_dict(base.get_output_embeddings().state_dict())
    probes, world = scene.probes, scene.world
    sentences = world.sentences(probes.fact[found["rows"]], probes.template[found["rows"]])
    with torch.no_grad():
        logps = mixed(input_ids=torch.from_numpy(sentences.input_ids)).logits.log_softmax(-1)
    each = np.arange(len(sentences.length))
    expected = logps[each, sentences.answer_start - 1, sentences.answers[:, 0]].numpy()
    np.testing.assert_allclose(found["patched"][-1], expected, atol=1e-5)
