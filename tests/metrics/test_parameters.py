"""CKA, Fisher information, concept vectors and causal traces, each against a computation of its own."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from doubles import evaluation, oracle, world
from experiments import quick
from scipy.stats import hypergeom

from unlearn_cli.metrics.causal_trace import effects, shift
from unlearn_cli.metrics.cka import CKA, erasure, linear_cka
from unlearn_cli.metrics.concept_vectors import ConceptVectors, concept_values, enrichment
from unlearn_cli.metrics.fisher_drift import FisherDrift
from unlearn_cli.observations.concepts import Concepts, _compared, columns, folded
from unlearn_cli.observations.fisher_information import FisherInformation, by_block, cosine, overlap
from unlearn_cli.observations.traced import Traced, answer_probability
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study

PROBES, OLD = world()
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study.of(quick(tmp_path_factory.mktemp("parameters")))


def neox(study, seed=0):
    return study.experiment.model.build(study.world.vocabulary.size, study.world.max_length, seed).eval()


def beside(study, base):
    return replace(scene_of(study), beside={"base": base})


def values(metric, seen):
    roles = {(role, metric.observations[0]): found for role, found in seen.items()}
    start = replace(evaluation(PROBES, oracle(OLD), oracle(OLD), (oracle(OLD),)), observed=roles)
    return {name.partition("/")[2]: value for name, value in metric.compute(start).items()}


# -- CKA


def unbiased_hsic(k, other):
    """Song et al. 2012, equation 5, from Gram matrices."""
    k, other, n = k - np.diag(np.diag(k)), other - np.diag(np.diag(other)), len(k)
    ones = np.ones(n)
    cross = (ones @ k @ ones) * (ones @ other @ ones) / ((n - 1) * (n - 2))
    return np.trace(k @ other) + cross - 2 / (n - 2) * (ones @ k @ other @ ones)


def test_cka_is_that_of_the_gram_matrices():
    x = RNG.normal(size=(12, 5))
    y = x[:, :3] + RNG.normal(size=(12, 3))
    debiased, biased = linear_cka(x, y)
    k, other = x @ x.T, y @ y.T
    expected = unbiased_hsic(k, other) / np.sqrt(unbiased_hsic(k, k) * unbiased_hsic(other, other))
    assert debiased == pytest.approx(expected)
    h = np.eye(12) - 1 / 12
    k, other = h @ k @ h, h @ other @ h
    assert biased == pytest.approx(np.sum(k * other) / np.sqrt(np.sum(k * k) * np.sum(other * other)))
    turn = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    assert linear_cka(x, 3 * x @ turn + 7) == pytest.approx((1, 1))


def test_only_the_debiased_cka_of_noise_is_0():
    debiased, biased = np.mean([linear_cka(RNG.normal(size=(20, 60)), RNG.normal(size=(20, 60))) for _ in range(40)], 0)
    assert abs(debiased) < 0.03
    assert biased > 0.6


def states(seed, forget_noise=0.0):
    rng = np.random.default_rng(seed)
    rows = np.arange(len(PROBES))
    end = rng.normal(size=(3, len(rows), 4)).astype(np.float32)
    forget = np.isin(rows, PROBES.splits["forget"].rows)
    end[:, forget] += forget_noise * np.random.default_rng(99).normal(size=(3, forget.sum(), 4)).astype(np.float32)
    return {"rows": rows, "end": end}


def test_cka_of_no_edit_and_of_gold():
    base, gold = states(0), states(1)
    same = values(CKA(), {"base": (base,), "edited": (base,), "gold": (gold,)})
    assert same["to_base/forget"].edited.value == pytest.approx(1)
    assert same["biased/to_base/retain"].edited.value == pytest.approx(1)
    assert same["erasure"].edited.value == pytest.approx(0)
    assert same["to_base/forget"].gold.value == pytest.approx(same["to_gold/forget"].base.value)
    ideal = values(CKA(), {"base": (base,), "edited": (gold,), "gold": (gold,)})
    assert ideal["erasure"].edited.value == pytest.approx(1)
    assert ideal["to_gold/forget"].edited.value == pytest.approx(1)
    moved = values(CKA(), {"base": (base,), "edited": (states(0, 2.0),), "gold": (gold,)})
    assert moved["to_base/retain"].edited.value == pytest.approx(1)
    assert moved["to_base/forget"].edited.value < 0.8
    assert erasure(np.array([0.5, 0.9]), np.array([0.2, 0.9])) == pytest.approx((0.3 + 0) / (0.8 + 0.1))
    assert values(CKA(), {"base": (base,), "edited": (base,)})["to_gold/forget"].status == "skipped"


# -- Fisher information


def test_cosine_overlap_and_blocks_by_hand():
    one = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]])}
    other = {"a": torch.tensor([4.0, 0.0]), "b": torch.tensor([[3.0]])}
    assert cosine(one, other) == pytest.approx(24 / 25)
    named = {"gpt_neox.layers.1.mlp.dense_h_to_4h.weight": torch.ones(3), "embed_out.weight": torch.full((2,), 2.0)}
    assert by_block(named, 2).tolist() == [4, 0, 3]
    important = {"a": torch.tensor([9.0, 8.0, 0.0, 0.0])}
    assert overlap(important, {"a": torch.tensor([-5.0, 0.0, 0.1, 0.0])}, 0.5) == (pytest.approx(1 / 3), 2 / 6)
    assert np.isnan(overlap(important, {"a": torch.zeros(4)}, 0.5)[0])


def test_the_quadratic_model_of_a_move_by_autograd(study):
    base = neox(study)
    edited = copy.deepcopy(base)
    name = "gpt_neox.layers.1.mlp.dense_4h_to_h.weight"
    dict(edited.named_parameters())[name].data.add_(0.01)
    scene = beside(study, base)
    found = FisherInformation(n=5, top=0.01).observe(edited, scene)
    assert found["move_forget"][[0, 1]].tolist() == [0, 0]
    drawn = FisherInformation(n=5, top=0.01)
    rows = scene.probes.splits["forget"].rows
    from unlearn_cli.streams import generator

    rows = np.sort(generator(scene.seed, "fisher", "forget").permutation(rows)[: drawn.n])
    sentences = scene.world.sentences(scene.probes.fact[rows], scene.probes.template[rows])
    total = 0.0
    for row in range(len(rows)):
        base.zero_grad()
        logits = base(input_ids=torch.from_numpy(sentences.input_ids[[row]])).logits
        at = int(sentences.answer_start[row])
        (-logits[0, at - 1].log_softmax(-1)[int(sentences.input_ids[row, at])]).backward()
        total += float((dict(base.named_parameters())[name].grad ** 2).sum())
    assert found["move_forget"][2] == pytest.approx(0.5 * total / len(rows) * 0.01**2, rel=1e-3)


def test_no_edit_moves_nothing(study):
    base = neox(study)
    found = FisherInformation(n=5, top=0.01).observe(copy.deepcopy(base), beside(study, base))
    read = values(FisherDrift(), {"edited": (found,), "base": (found,)})
    assert read["move/retain"].edited.value == read["move/forget"].edited.value == 0
    assert read["drift"].edited.value == pytest.approx(0, abs=1e-9)
    assert read["overlap"].status == "skipped"
    assert read["importance"].edited.value == read["importance"].base.value > 0


# -- concept vectors


def test_enrichment_is_the_hypergeometric_test():
    for hits in (0, 1, 4, 7):
        assert enrichment(hits, 10, 15, 100) == pytest.approx(hypergeom.sf(hits - 1, 100, 15, 10))
    assert enrichment(0, 10, 15, 100) == pytest.approx(1)


def test_vectors_compared_by_hand():
    decoder = torch.eye(6)
    old = torch.tensor([[3.0, 2.0, 1.0, 0.0, 0.0, -1.0]])
    same, turned = (_compared(old, new, decoder, 2, np.array([0, 5])) for new in (old, -old))
    assert (same["cosine"][0], same["jaccard"][0], same["distance"][0], same["hits"][0]) == (pytest.approx(1), 1, 0, 1)
    assert (turned["cosine"][0], turned["jaccard"][0]) == (pytest.approx(-1), 0)
    assert turned["distance"][0] == pytest.approx(2 * np.sqrt(15), rel=1e-6)
    arrays = {**same, "counts": np.array([2, 6, 2, 1]), "same": np.array([0.25]), "same_unrelated": np.array([1.0])}
    read = concept_values({name: a[None] if name in same else a for name, a in arrays.items()})
    assert read["intrinsic"][0] == pytest.approx(0)
    assert read["selectivity"][0] == 0.75


def test_a_planted_vector_is_found_first_and_its_loss_is_seen(study):
    """Unit 3 of block 1 fires on everything and writes the object of one concept."""
    base = neox(study)
    scene = beside(study, base)
    rows = scene.probes.splits["forget"].rows
    fact = scene.probes.fact[rows[0]]
    word = int(scene.world.sentences(np.array([fact]), scene.probes.template[rows[:1]]).answers[0, 0])
    mlp = base.gpt_neox.layers[1].mlp
    mlp.dense_h_to_4h.weight.data[3].zero_()
    mlp.dense_h_to_4h.bias.data[3] = 5.0
    mlp.dense_4h_to_h.weight.data[:, 3] = 20 * folded(base)[word]
    edited = copy.deepcopy(base)
    observation = Concepts(vectors=2, tokens=200, noise=None, unrelated=2)
    relation, objects = scene.world.facts.relation, scene.world.facts.object
    keys = np.unique(relation[scene.request.facts] * scene.world.objects + objects[scene.request.facts])
    number = int(np.searchsorted(keys, relation[fact] * scene.world.objects + objects[fact]))
    before = observation.observe(edited, scene)
    assert (before["layer"][number, 0], before["unit"][number, 0]) == (1, 3)
    assert before["cosine"] == pytest.approx(np.ones_like(before["cosine"]))
    assert (before["jaccard"] == 1).all()
    assert (before["distance"] == 0).all()
    assert before["counts"][0] <= before["counts"][1] / 10
    columns(edited)  # a copy: nothing is changed by reading
    edited.gpt_neox.layers[1].mlp.dense_4h_to_h.weight.data[:, 3] *= -1
    after = observation.observe(edited, scene)
    assert after["cosine"][number, 0] == pytest.approx(-1)
    assert after["jaccard"][number, 0] < 0.2
    assert before["same"][number] < 1  # every prompt was answered with the planted object


def test_noise_0_changes_no_answer(study):
    base = neox(study)
    kept = copy.deepcopy(base.state_dict())
    scene = beside(study, base)
    found = Concepts(vectors=3, tokens=200, noise=0.0, unrelated=2).observe(base, scene)
    assert (found["same"] == 1).all()
    assert (found["same_unrelated"] == 1).all()
    Concepts(vectors=3, tokens=200, noise=None, unrelated=2).observe(base, scene)
    assert all(torch.equal(kept[name], tensor) for name, tensor in base.state_dict().items())
    read = values(ConceptVectors(), {"edited": (found,), "base": (found,)})
    assert read["cosine"].edited.value == pytest.approx(1)
    assert read["intrinsic"].edited.value == pytest.approx(0)
    k, size = found["counts"][:2]
    assert read["jaccard_random"].edited.value == pytest.approx(k / (2 * size - k))


# -- causal traces


def test_restoring_everything_is_clean_and_the_last_state_alone_is_enough(study):
    model = neox(study)
    scene = scene_of(study)
    rows = scene.probes.splits["forget"].rows[:6]
    traced = Traced(noise=3.0, samples=4, prompts=6)
    found = traced._pass(model, scene, rows, ("forget", 0))
    sentences = scene.world.sentences(scene.probes.fact[rows], scene.probes.template[rows])
    with torch.no_grad():
        logps = model(input_ids=torch.from_numpy(sentences.input_ids)).logits.log_softmax(-1)
    each = np.arange(len(rows))
    clean = logps[each, sentences.answer_start - 1, sentences.answers[:, 0]].exp().numpy()
    np.testing.assert_allclose(found["high"], clean, rtol=1e-4)
    assert np.abs(found["low"] - found["high"]).max() > 1e-5
    np.testing.assert_allclose(found["restored"][1, -1], found["high"], rtol=1e-4)  # the prompt's end, last block
    np.testing.assert_allclose(found["restored"][0, -1], found["low"], rtol=1e-4)  # too late for the subject
    np.testing.assert_allclose(found["restored"][1, 0], found["low"], rtol=1e-4)  # no noise is at the prompt's end


def test_noise_is_on_the_subject_only_and_none_is_none(study):
    model, scene = neox(study), scene_of(study)
    rows = scene.probes.splits["forget"].rows[:2]
    sentences = scene.world.sentences(scene.probes.fact[rows], scene.probes.template[rows])
    ids = torch.from_numpy(sentences.input_ids)
    read, answers = torch.from_numpy(sentences.positions - 1), torch.from_numpy(sentences.answers)
    nothing = torch.zeros(*ids.shape, model.config.hidden_size)
    plain = answer_probability(model, ids, nothing, read, answers, {})
    behind = nothing.clone()
    behind[:, int(sentences.positions.max()) :] = 9.0
    torch.testing.assert_close(answer_probability(model, ids, behind, read, answers, {}), plain)


def test_effects_and_shift_by_hand():
    arrays = {"g_high": np.array([0.9]), "g_low": np.array([0.1]), "g_restored": np.zeros((2, 2, 1)) + 0.1}
    arrays["g_restored"][1, 1] = 0.9
    total, indirect = effects(arrays, "g")
    assert total[0] == pytest.approx(0.8)
    assert indirect.ravel().tolist() == pytest.approx([0, 0, 0, 0.8])
    other = np.zeros((2, 2, 1))
    other[0, 0], other[1, 1] = 0.2, 0.2
    assert shift(indirect, indirect) == 0
    assert shift(indirect, other) == pytest.approx(0.5)
    assert shift(indirect, -other) is None
    assert shift(indirect, other[..., :0]) is None
