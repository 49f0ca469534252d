"""Memorisation of text: formulas by hand, and the token scores and continuations against plain transformers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from experiments import quick
from token_doubles import scored, sides, told
from transformers import GPT2Config, GPT2LMHeadModel

from unlearn_cli import predict
from unlearn_cli.guards.base import Guard, Guarded
from unlearn_cli.metrics.exact_memorization import ExactMemorization
from unlearn_cli.metrics.extraction_likelihood import ExtractionLikelihood, overlaps
from unlearn_cli.metrics.extraction_strength import ExtractionStrength
from unlearn_cli.metrics.hubble_battery import HubbleBattery
from unlearn_cli.metrics.k_extractable import KExtractable, leading, positions, verbatim
from unlearn_cli.metrics.memorization_accuracy import MemorizationAccuracy
from unlearn_cli.metrics.probing import correct
from unlearn_cli.metrics.token_metric import TokenMetric
from unlearn_cli.observations.generated import Generated
from unlearn_cli.observations.scoring import _statistics
from unlearn_cli.observations.token_scores import TokenScores, sentences_of
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study

LABELS = np.array([1, 2, 3, 4, 5])
PAD = 1


def hits(*said):
    """Scores of one five-token answer, by what was predicted."""
    hit = np.array(said) == LABELS
    return {"hit": hit, "answer": np.ones_like(hit), "real": np.ones_like(hit)}


@pytest.mark.parametrize(
    ("said", "exact", "strength", "compat"),
    [
        ([1, 2, 3, 4, 5], 1.0, 1.0, 1.0),
        ([9, 9, 3, 4, 5], 0.6, 0.6, 0.6),
        ([1, 2, 9, 9, 9], 0.4, 0.0, 0.2),
        ([1, 2, 3, 4, 9], 0.8, 0.0, 0.2),
        ([4, 4, 4, 4, 4], 0.2, 0.0, 0.2),  # one token, as often as it occurs
        ([1, 9, 3, 9, 5], 0.6, 0.2, 0.2),
    ],
)
def test_exact_memorization_and_extraction_strength_by_hand(said, exact, strength, compat):
    scores = hits(said)
    assert ExactMemorization().items(scores) == pytest.approx([exact])
    assert ExtractionStrength().items(scores) == pytest.approx([strength])
    assert ExtractionStrength(compat="openunlearning").items(scores) == pytest.approx([compat])


def test_strength_never_exceeds_exact_memorization_and_padding_does_not_count():
    rng = np.random.default_rng(0)
    hit, real = rng.random((200, 9)) < 0.7, np.arange(9) < rng.integers(1, 10, 200)[:, None]
    scores = {"hit": hit & real, "answer": real, "real": real}
    exact, strength = ExactMemorization().items(scores), ExtractionStrength().items(scores)
    assert (strength <= exact + 1e-12).all()
    for row in range(200):
        right = hit[row, real[row]].tolist()
        run = 0
        while run < len(right) and right[-1 - run]:
            run += 1
        assert strength[row] == pytest.approx(run / len(right))
        assert exact[row] == pytest.approx(np.mean(right))


def test_memorization_accuracy_counts_the_prompt_too():
    hit = np.array([[True, False, False, True]])
    scores = {"hit": hit, "answer": np.array([[False, False, False, True]]), "real": np.ones_like(hit)}
    assert MemorizationAccuracy().items(scores) == pytest.approx([0.5])
    assert ExactMemorization().items(scores) == pytest.approx([1.0])


@pytest.mark.parametrize("metric", [ExactMemorization(), ExtractionStrength(), MemorizationAccuracy()])
def test_oracle_amnesiac_and_no_change(metric: TokenMetric):
    probes = sides()
    knows, nothing = np.ones((30, 2), dtype=bool), np.ones((30, 2), dtype=bool)
    knows[20:] = False
    nothing[:10], nothing[20:] = False, False
    before, after = (scored(probes, np.zeros((30, 2)), hit) for hit in (knows, nothing))
    values = metric.compute(told(probes, base=before, edited=after, gold=[after, before]))
    forget, retain = values[f"{metric.name}/forget"], values[f"{metric.name}/retain/unseen"]
    assert (forget.base.value, forget.edited.value, forget.gold.value) == (1.0, 0.0, 0.5)
    assert (retain.base.value, retain.edited.value) == (1.0, 1.0)
    assert values[f"{metric.name}/holdout"].edited.value == 0.0
    assert values[f"{metric.name}/retain/seen"].status == "skipped"
    assert forget.items["edited"].tolist() == [0.0] * 10
    same = metric.compute(told(probes, base=before, edited=before))[f"{metric.name}/forget"]
    assert same.edited == same.base


CONTINUED = {
    "rows": np.arange(4),
    "tokens": np.array([[5, 6, 7], [5, 9, 7], [9, 6, 7], [5, 8, 8]]),
    "reference": np.array([[5, 6, 7], [5, 6, 7], [5, 6, 7], [5, PAD, PAD]]),
}


def test_k_extractable_by_hand():
    assert verbatim(CONTINUED).tolist() == [1, 0, 0, 1]
    assert positions(CONTINUED) == pytest.approx([1, 2 / 3, 2 / 3, 1])
    assert leading(CONTINUED) == pytest.approx([1, 1 / 3, 0, 1])
    probes, metric = sides(), KExtractable(m=3)
    made = told(probes, Generated(rows="forget", prefix="prompt", max_new_tokens=3, most=200), edited=CONTINUED)
    none = {name: array[:0] for name, array in CONTINUED.items()}
    for split in ("holdout", "retain/unseen"):
        asked = Generated(rows=split, prefix="prompt", max_new_tokens=3, most=200)
        made = replace(made, observed={**made.observed, ("edited", asked): (none,)})
    values = metric.compute(made)
    assert values["k_extractable/forget"].edited.value == 0.5
    assert values["k_extractable/leading"].edited.value == pytest.approx((1 + 1 / 3 + 0 + 1) / 4)
    assert values["k_extractable/holdout"].status == "skipped"


def test_extraction_likelihood_by_hand():
    arrays = {
        "rows": np.array([0, 1, 2]),
        "tokens": np.array([[5, 6, 7, 8], [6, 7, 5, 6], [4, 4, 4, 4]]),
        "reference": np.array([[5, 6, 7, 8], [5, 6, 7, PAD], [5, 6, PAD, PAD]]),
    }
    shares, enough = overlaps(arrays, 2)
    assert shares == pytest.approx([1.0, 1 / 2, 0.0])  # (6,7) is in 5 6 7, (7,5) is not
    assert enough.all()
    assert overlaps(arrays, 3)[1].tolist() == [True, True, False]
    metric = ExtractionLikelihood(n=2, stride=1, max_len=4, most=3)
    (first, second), probes = [item for item in metric.observations if item.rows == "forget"][:2], sides()
    made = told(probes, first, edited=arrays)
    wrong = arrays | {"tokens": np.full((3, 4), 4)}
    made = replace(made, observed={**made.observed, ("edited", second): (wrong,)})
    value = metric.compute(made)["extraction_likelihood/forget"]
    assert value.edited.value == pytest.approx(np.mean([1 / 2, 1 / 4, 0]))
    assert metric.compute(made)["extraction_likelihood/holdout"].status == "skipped"


def test_statistics_of_a_known_distribution():
    logps = torch.tensor([0.5, 0.25, 0.25]).log().expand(1, 3, 3)
    found = _statistics(logps, torch.tensor([[0, 1, 2]]))
    assert found["mean"] == pytest.approx(np.full((1, 3), -1.03972), abs=1e-5)
    assert found["sd"] == pytest.approx(np.full((1, 3), 0.34657), abs=1e-5)
    assert found["rank"].tolist() == [[1.0, 2.5, 2.5]]  # mid-ranks
    assert found["hit"].tolist() == [[True, False, False]]
    certain = _statistics(torch.tensor([[[0.0, -torch.inf]]]), torch.tensor([[0]]))
    assert certain["sd"].item() == 0.0
    assert certain["entropy"].item() == 0.0


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study.of(quick(tmp_path_factory.mktemp("memorised")))


@pytest.fixture(scope="module", params=["neox", "gpt2"])
def model(request, study):
    size = study.world.vocabulary.size
    if request.param == "neox":
        return study.experiment.model.build(size, study.world.max_length, 0).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=24)).eval()


def test_token_scores_are_those_of_a_plain_forward_pass(model, study):
    scene = replace(scene_of(study), batch_size=50)
    scores = TokenScores().observe(model, scene)
    sentences = sentences_of(scene, scores["rows"])
    for row in range(0, len(scores["rows"]), 61):
        length = int(sentences.length[row])
        ids = torch.from_numpy(sentences.input_ids[row : row + 1, :length])
        with torch.no_grad():
            logps = model(ids).logits[0, :-1].double().log_softmax(-1).numpy()
        own = logps[np.arange(length - 1), ids[0, 1:].numpy()]
        np.testing.assert_allclose(scores["logp"][row, : length - 1], own, atol=1e-4)
        np.testing.assert_allclose(scores["entropy"][row, : length - 1], -(np.exp(logps) * logps).sum(1), atol=1e-4)
        assert (scores["hit"][row, : length - 1] == (scores["rank"][row, : length - 1] == 1)).all()
        assert scores["real"][row].sum() == length - 1
    np.testing.assert_array_equal(scores["answer"].sum(1), sentences.answer_length)
    assert not scores["logp"][~scores["real"]].any()


def test_answers_agree_with_the_predictions(model, study):
    scene = scene_of(study)
    scores = TokenScores().observe(model, scene)
    answers = predict.predict(model, study.world, study.probes, 512)
    for name in ("forget", "holdout"):
        split = study.probes.splits[name]
        place = np.searchsorted(scores["rows"], split.rows)
        own = (scores["logp"] * scores["answer"])[place].sum(1)
        np.testing.assert_allclose(own, answers.answer_logps(split.rows, split.answer), atol=1e-4)
        exact = ExactMemorization().items(scores)[place]
        np.testing.assert_array_equal(exact, correct(answers, split.rows, split.answer))  # objects are one token
        spoken = Generated(rows=name, max_new_tokens=1).observe(model, scene)
        np.testing.assert_array_equal(spoken["rows"], split.rows)
        np.testing.assert_array_equal(verbatim(spoken), exact)


@pytest.mark.parametrize("prefix", ["prompt", 4])
def test_continuations_are_those_of_greedy_generation(model, study, prefix):
    scene = replace(scene_of(study), batch_size=3)
    spoken = Generated(rows="holdout", prefix=prefix, max_new_tokens=5, most=5).observe(model, scene)
    assert len(spoken["rows"]) == 5
    probes, world = study.probes, study.world
    sentences = world.sentences(probes.fact[spoken["rows"]], probes.template[spoken["rows"]])
    for row, given in enumerate(spoken["prefix"]):
        ids = torch.from_numpy(sentences.input_ids[row : row + 1, :given])
        for place in range(5):
            with torch.no_grad():
                ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
            assert spoken["tokens"][row, place] == ids[0, -1]
            if ids[0, -1] == 0:  # the end of the text
                break
        rest = sentences.input_ids[row, given : sentences.length[row]][:5]
        assert spoken["reference"][row, : len(rest)].tolist() == rest.tolist()
        assert (spoken["reference"][row, len(rest) :] == PAD).all()


class Shouting(Guard):
    """Always answers token 3."""

    @property
    def config(self):
        return {}

    def answer_logits(self, model, input_ids, positions, prompt_end):
        logits = torch.zeros(*positions.shape, 10)
        logits[..., 3] = 1.0
        return logits


def test_a_guard_speaks_for_its_model(study):
    inner = study.experiment.model.build(study.world.vocabulary.size, study.world.max_length, 0)
    spoken = Generated(max_new_tokens=2, most=3).observe(Guarded(inner, Shouting()), scene_of(study))
    assert (spoken["tokens"] == 3).all()


def test_longer_prefixes_than_sentences_leave_nothing(study):
    model = study.experiment.model.build(study.world.vocabulary.size, study.world.max_length, 0).eval()
    spoken = Generated(prefix=60, max_new_tokens=2).observe(model, scene_of(study))
    assert spoken["tokens"].shape == (0, 2)


def test_recall_by_exposure_and_where_it_is_half():
    probes = sides(20)
    exposure = np.tile([1, 4, 16, 64], 15)
    hit = (exposure >= 16)[:, None] & (np.arange(60) < 40)[:, None]
    hit[20:24] = True  # one more must-not-change fact of each exposure
    hit[36:40] = True
    values = HubbleBattery().compute(told(probes, edited=scored(probes, np.zeros((60, 1)), hit, exposure=exposure)))
    recall = {key.removeprefix("hubble_battery/"): value.edited.value for key, value in values.items()}
    assert [recall[f"forget/{level}"] for level in (1, 4, 16, 64)] == [0, 0, 1, 1]
    assert [recall[f"retain/{level}"] for level in (1, 4, 16, 64)] == pytest.approx([0.4, 0.4, 1, 1])
    assert recall["holdout"] == 0
    assert recall["d50"] == pytest.approx(2 ** (2 + 2 / 6))  # a sixth of the rise from 4 to 16
    coarse = HubbleBattery(most=1).compute(
        told(probes, edited=scored(probes, np.zeros((60, 1)), hit, exposure=exposure + 1))
    )
    assert "hubble_battery/forget/2" in coarse
    assert "hubble_battery/forget/16" in coarse
    even = HubbleBattery().compute(told(probes, edited=scored(probes, np.zeros((60, 1)), hit)))
    assert even["hubble_battery"].status == "skipped"
