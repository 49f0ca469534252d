"""Readings of hidden states: the lens, the probe, what they show behind a guard; against other computations."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from doubles import evaluation, oracle, uniform, world
from experiments import quick
from sklearn.linear_model import Ridge
from small_models import SHAPES, neox, shaped

from unlearn_cli import predict
from unlearn_cli.edits.forget import Forget
from unlearn_cli.methods.output_filter import OutputFilter
from unlearn_cli.metrics.fact_accuracy import FactAccuracy
from unlearn_cli.metrics.linear_probe import LinearProbe
from unlearn_cli.metrics.logit_lens import LogitLens, erasure, extremes
from unlearn_cli.metrics.relearn import Relearn
from unlearn_cli.metrics.ridge import predicted, solve
from unlearn_cli.observations.hidden_states import HiddenStates
from unlearn_cli.observations.lens import Lens
from unlearn_cli.observations.residual import final_norm, streams
from unlearn_cli.observations.slices import some_rows, tune_facts
from unlearn_cli.observing import scene_of
from unlearn_cli.pipeline import run
from unlearn_cli.study import Study

O = 5  # noqa: E741
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study.of(quick(tmp_path_factory.mktemp("internals")))


@pytest.fixture(scope="module")
def scene(study):
    return scene_of(study)


@pytest.mark.parametrize("kind", SHAPES)
def test_streams_are_the_hidden_states_before_the_final_norm(kind, study):
    model = shaped(kind, study, layers=3)
    ids = torch.randint(0, study.world.vocabulary.size, (3, 7), generator=torch.Generator().manual_seed(0))
    found = streams(model, ids)
    with torch.no_grad():
        theirs = model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    assert len(found) == len(theirs)
    for mine, other in zip(found[:-1], theirs[:-1], strict=True):
        torch.testing.assert_close(mine, other)
    torch.testing.assert_close(final_norm(model)[1](found[-1]), theirs[-1])
    assert not torch.allclose(found[-1], theirs[-1])


def test_states_stand_at_the_ends_of_prompt_and_subject_and_the_sample_is_apart_from_the_probes(study, scene):
    model = neox(study)
    found = HiddenStates(facts=4, train_facts=6, train_templates=2).observe(model, scene)
    row = int(found["rows"][3])
    fact, template = scene.probes.fact[[row]], scene.probes.template[[row]]
    sentences = scene.world.sentences(fact, template)
    stream = streams(model, torch.from_numpy(sentences.input_ids))
    for layer, states in enumerate(stream):
        end = states[0, sentences.answer_start[0] - 1].numpy()
        np.testing.assert_allclose(found["end"][layer, 3], end, atol=1e-5)
        np.testing.assert_allclose(found["subject"][layer, 3], states[0, sentences.subject_end[0]].numpy(), atol=1e-5)
    assert found["train_end"].shape[1] == len(found["train_object"]) == 12
    assert set(found["train_relation"]) <= set(scene.world.facts.relation[scene.request.facts])
    assert sorted(found["train_control"]) == sorted(found["train_object"])
    sample, _ = HiddenStates(facts=4, train_facts=6, train_templates=2)._sample(scene, found["rows"])
    assert not np.isin(sample, scene.probes.fact[found["rows"]]).any()
    assert not np.isin(sample, scene.request.facts).any()
    np.testing.assert_array_equal(found["train_object"], scene.world.facts.object[sample])


def test_the_tune_slice_is_a_part_of_the_requested_facts(scene):
    tune = tune_facts(scene)
    assert len(tune) == 1  # 0.3 of 4
    assert np.isin(tune, scene.request.facts).all()
    rows = some_rows(scene, 2)
    assert np.isin(scene.probes.splits["forget"].rows, rows).all()
    holdout = np.intersect1d(rows, scene.probes.splits["holdout"].rows)
    assert len(np.unique(scene.probes.fact[holdout])) == 2


# -- logit lens


def test_the_last_block_of_the_lens_is_the_model_and_the_first_is_decoded_by_hand(study, scene):
    model = neox(study)
    found = Lens(decoder="own").observe(copy.deepcopy(model), scene)
    answers = predict.predict(model, scene.world, scene.probes.only(found["rows"]), 64)
    np.testing.assert_allclose(found["layer_logps"][-1], answers.candidate_logps, atol=1e-5)
    row = int(found["rows"][0])
    fact = scene.probes.fact[[row]]
    sentences = scene.world.sentences(fact, scene.probes.template[[row]])
    state = streams(model, torch.from_numpy(sentences.input_ids))[1][0, sentences.answer_start[0] - 1]
    with torch.no_grad():
        logps = model.get_output_embeddings()(final_norm(model)[1](state))
    candidates = scene.world.candidates(int(scene.world.facts.relation[fact[0]]))[:, 0]
    np.testing.assert_allclose(
        found["layer_logps"][0, 0, : len(candidates)], logps.log_softmax(-1)[candidates].numpy(), atol=1e-5
    )
    assert not np.isin(scene.probes.fact[found["rows"]], tune_facts(scene)).any()


def test_the_bases_decoder_undoes_what_was_done_to_the_head(study, scene):
    model = neox(study)
    edited = copy.deepcopy(model)
    edited.get_output_embeddings().weight.data.mul_(-1)
    beside = replace(scene, beside={"base": copy.deepcopy(model)})
    clean = Lens(decoder="own").observe(copy.deepcopy(model), scene)
    own = Lens(decoder="own").observe(copy.deepcopy(edited), scene)
    fixed = Lens(decoder="base").observe(copy.deepcopy(edited), beside)
    np.testing.assert_allclose(fixed["layer_logps"], clean["layer_logps"], atol=1e-6)
    assert np.abs(own["layer_logps"] - clean["layer_logps"])[np.isfinite(clean["layer_logps"])].max() > 0.1


def test_extremes_and_erasure_by_hand():
    logps = np.log(np.array([[0.4, 0.1, 0.3, 0.2, 1e-9]], dtype=np.float32))
    logps[0, 4] = -np.inf  # no candidate
    assert extremes(logps, 1).tolist() == [[True, True, False, False, False]]
    assert extremes(logps, 2).tolist() == [[True, True, True, True, False]]
    base, gold = [-1.0, -2.0, -3.0], [-2.0, -2.5, -3.03]  # gaps 1, .5, .03: the last does not count
    edited = [-1.5, -2.6, -9.0]
    assert erasure(np.array([*base, *edited, *gold])) == pytest.approx((0.5 + 0.5) / 1.5)
    assert erasure(np.array([*base, *base, *gold])) == 0
    assert erasure(np.array([*base, *gold, *gold])) == 1
    assert np.isnan(erasure(np.array([*base, *base, *base])))


PROBES, OLD = world()
ROWS = np.concatenate([split.rows for name, split in PROBES.splits.items() if name == "forget" or "unseen" in name])


def lensed(*blocks, best=0):
    """What the lens leaves when its blocks answer like these doubles."""
    logps = np.stack([block.candidate_logps[ROWS] for block in blocks])
    told = {"candidate_logps": logps[best : best + 1], "greedy": logps[best : best + 1].argmax(-1)}
    return {"rows": ROWS, **told, "layer": np.array([best + 1]), "layer_logps": logps}


def read(metric, edited, base, gold, models=None):
    known, blank = oracle(OLD), uniform(len(OLD))
    start = evaluation(PROBES, known, models or blank, (blank,))
    observation = metric.observations[0]
    seen = {("edited", observation): (edited,), ("base", observation): (base,), ("gold", observation): (gold,)}
    return {name.split("/")[1]: value for name, value in metric.compute(replace(start, observed=seen)).items()}


def test_a_fact_that_an_inner_block_still_holds_is_recovered():
    known, blank = oracle(OLD), uniform(len(OLD))
    found = read(LogitLens(k=1), lensed(known, blank), lensed(known, known), lensed(blank, blank))
    assert found["forget"].edited.value == 1
    assert found["recovery"].edited.value == pytest.approx(1)
    assert found["gain"].edited.value == pytest.approx(0.8)
    assert found["excess"].edited.value == pytest.approx(0.8)
    assert found["layer_1"].edited.value == 1
    assert found["layer_2"].edited.value == pytest.approx(1 / O)
    assert found["layer_2"].gold.value == pytest.approx(1 / O)
    assert found["first_layer"].edited.value == 1
    assert found["candidate_set"].edited.value == 1
    # behind block 1 nothing is gone, behind block 2 all: gaps are equal
    assert found["erasure"].edited.value == pytest.approx(0.5)


def test_no_edit_and_gold_are_the_ends():
    known, blank = oracle(OLD), uniform(len(OLD))
    same = read(LogitLens(), lensed(known, known), lensed(known, known), lensed(blank, blank), models=known)
    assert (same["forget"].edited.value, same["erasure"].edited.value) == (1, 0)
    ideal = read(LogitLens(), lensed(blank, blank), lensed(known, known), lensed(blank, blank))
    assert (ideal["excess"].edited.value, ideal["erasure"].edited.value) == (0, 1)
    assert ideal["first_layer"].status == "skipped"


# -- linear probe


def test_ridge_is_scikit_learns():
    x, y = RNG.normal(size=(60, 8)), RNG.normal(size=(60, 3))
    x, y = x - x.mean(0), y - y.mean(0)
    theirs = Ridge(alpha=0.5 * 60, fit_intercept=False).fit(x, y).coef_.T
    np.testing.assert_allclose(solve(x, y, 0.5), theirs, atol=1e-10)


def test_a_planted_direction_is_read_and_noise_is_not():
    labels = np.tile(np.arange(O), 200)
    noise, planted = RNG.normal(size=(1000, 20)), RNG.normal(size=(1000, 20))
    planted[:, :O] += 6 * np.eye(O)[labels]
    assert (predicted(planted[:500], labels[:500], planted[500:], 1e-2) == labels[500:]).mean() > 0.99
    assert abs((predicted(noise[:500], labels[:500], noise[500:], 1e-2) == labels[500:]).mean() - 1 / O) < 0.08
    constant = np.concatenate([planted, np.full((1000, 1), 3.0)], axis=1)
    np.testing.assert_array_equal(predicted(constant[:500], labels[:500], constant[500:], 1e-2), labels[500:])


def stated(strength_forget, strength_retain, seed=0):
    """States of two layers in which objects are written; behind block 1 weakly, behind block 2 as told."""
    rng = np.random.default_rng(seed)
    objects = rng.integers(0, O, 400)
    forget = np.isin(ROWS, PROBES.splits["forget"].rows)

    def written(labels, strength):
        states = rng.normal(size=(3, len(labels), 12)).astype(np.float32)
        states[2, :, :O] += (strength * np.eye(O)[labels]).astype(np.float32)
        return states

    strength = np.where(forget, strength_forget, strength_retain)[:, None]
    subjects = np.isin(PROBES.subject[ROWS], [0])
    return {
        "rows": ROWS,
        "relation": np.zeros(len(ROWS), dtype=np.int64),
        "tune": forget & subjects,
        "train_relation": np.zeros(400, dtype=np.int64),
        "train_object": objects,
        "train_control": rng.permutation(objects),
        "end": written(OLD[ROWS], strength),
        "train_end": written(objects, strength_retain),
    }


def test_the_probe_finds_what_is_written_and_its_control_nothing():
    holds, lost = stated(8.0, 8.0), stated(0.0, 8.0)
    found = read(LinearProbe(), holds, holds, lost)
    assert found["forget"].edited.value == found["layer_2"].edited.value == 1
    assert found["forget"].edited.n == 6  # one of four subjects is the tune slice
    assert found["retain"].edited.value == 1
    assert found["selectivity"].edited.value > 0.6
    assert found["excess"].edited.value == pytest.approx(1 - found["forget"].gold.value)
    ideal = read(LinearProbe(), lost, holds, lost)
    assert ideal["excess"].edited.value == 0
    assert ideal["forget"].items["edited"].shape == (6,)


def test_without_a_sample_or_a_subject_the_probe_is_skipped():
    empty = stated(1.0, 1.0)
    empty |= {name: empty[name][:0] for name in ("train_relation", "train_object", "train_control")}
    (value,) = read_all(LinearProbe(), empty)
    assert value.status == "skipped"
    (value,) = read_all(LinearProbe(position="subject"), stated(1.0, 1.0))
    assert value.reason == "a prompt names no subject"


def read_all(metric, arrays):
    start = evaluation(PROBES, oracle(OLD), oracle(OLD))
    seen = {(role, metric.observations[0]): (arrays,) for role in ("edited", "base")}
    return metric.compute(replace(start, observed=seen)).values()


def test_a_guard_that_only_hides_passes_for_forgetting_until_the_weights_are_read(tmp_path):
    metric = {
        "fact_accuracy": FactAccuracy(),
        "logit_lens": LogitLens(),
        "linear_probe": LinearProbe(facts=4),
        "relearn": Relearn(n=10, steps=3),
    }
    start = quick(tmp_path, method=OutputFilter(), metric=metric, edit=Forget(n=6))
    world = replace(start.world, subjects=40)
    found = run(replace(start, world=world)).metrics
    assert found["fact_accuracy/forget"]["value"] == 0
    assert found["fact_accuracy/retain"]["value"] > 0.9
    assert found["logit_lens/forget"]["value"] > 0.9
    assert found["logit_lens/recovery"]["value"] > 0.9
    assert found["logit_lens/excess"]["value"] > 0.5
    assert found["linear_probe/forget"]["value"] == found["linear_probe/forget"]["base"]["value"] > 0.5
    assert found["relearn_retain_only/recovery"]["value"] > 0.5
