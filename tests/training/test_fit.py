"""Training: the base learns its world, stops when it has, and says so when it has not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from unlearn_cli.errors import UnlearnError
from unlearn_cli.machine import Numerics
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.training.fit import _Fit, fit
from unlearn_cli.training.loop import Runtime, products_in
from unlearn_cli.training.recipe import Train
from unlearn_cli.worlds.exposure import Exposure
from unlearn_cli.worlds.grammar import Grammar
from unlearn_cli.worlds.tabular import Questions, Tabular

CPU = Numerics("cpu", 1, 1, "fp32")
TABULAR = Tabular(
    subjects=20, relations=2, objects=5, holdout_subjects=3, grammar=Grammar(templates=2, heldout=1, fillers=2)
)
WORLD = TABULAR.build(0)
MODEL = GPTNeoX(hidden_size=32, heads=2, mlp_size=64)
QUICK = Train(batch_size=20, matrix_lr=0.02, decay_passes=75.0, max_passes=75.0, check_every=10)  # 150 steps


def test_it_learns_every_fact_and_stops_there():
    runtime = Runtime("train", CPU)
    fitted = fit(MODEL, WORLD, QUICK, ("base",), runtime)
    assert fitted.recall == 1.0
    assert fitted.steps < 150 and fitted.steps % 10 == 0
    assert runtime.curves[-1]["recall"] >= 0.999
    assert [row["step"] for row in runtime.curves] == list(range(1, fitted.steps + 1))
    assert fitted.ledger.sum() == fitted.steps * 20
    assert (fitted.ledger[WORLD.facts.holdout] == 0).all() and (fitted.ledger[:, 1] == 0).all()
    shown = fitted.ledger[~WORLD.facts.holdout, 0]
    assert shown.max() - shown.min() <= 1  # an exact deck: no fact is shown twice before another is shown once


@pytest.mark.parametrize("kind", ["inverted", "repeats", "nonsense"])
@pytest.mark.parametrize("loss_on", ["answer", "reply", "all"])
def test_loss_of_sentences_of_many_lengths_is_that_of_each_by_itself(kind, loss_on):
    world = replace(TABULAR, grammar=Grammar(kind=kind, inversion=0.0 if kind == "repeats" else 0.5)).build(0)
    network = MODEL.build(world.vocabulary.size, world.max_length, 0)
    task = _Fit(Train(batch_size=10, loss_on=loss_on), world, ("base",), Runtime("train", CPU))
    loss = float(task.losses(network, 2)["loss"].detach())
    sentences, total, count = world.write(task.deck.deal(20, 30)), 0.0, 0
    assert len(set(sentences.length)) > 1
    for row, start, length in zip(sentences.input_ids, sentences.answer_start, sentences.length, strict=True):
        logps = network(torch.from_numpy(row[None, :length])).logits.detach().log_softmax(-1)[0]
        read = {"answer": range(start, start + 1), "reply": range(start, length), "all": range(1, length)}[loss_on]
        total -= sum(float(logps[place - 1, row[place]]) for place in read)
        count += len(read)
    assert loss == pytest.approx(total / count, rel=1e-5)


def test_facts_with_phases_are_trained_to_the_end_of_the_deck():
    world = replace(TABULAR, exposure=Exposure(mean=30, phases=[(0.0, 0.5), (0.5, 1.0)])).build(0)
    fitted = fit(MODEL, world, replace(QUICK, min_recall=0.0), ("base",), Runtime("train", CPU))
    assert fitted.steps == 30 * 40 // 20
    assert (fitted.ledger[~world.facts.holdout, 0] == 30).all()


def test_recall_counts_sentences_not_facts():
    world = replace(TABULAR, exposure=Exposure(kind="buckets", buckets=[1, 9])).build(0)
    network = MODEL.build(world.vocabulary.size, world.max_length, 0)
    task = _Fit(Train(batch_size=10), world, ("base",), Runtime("train", CPU))
    asked = task.asked
    sentences = world.sentences(asked.facts, asked.templates)
    logits = network(torch.from_numpy(sentences.input_ids)).logits.detach().numpy()
    right = logits[np.arange(len(asked.facts)), sentences.answer_start - 1].argmax(-1) == sentences.answers[:, 0]
    weights = world.facts.exposure[asked.facts]
    assert set(weights) == {1, 9}
    assert task.recall(network) == pytest.approx((right * weights).sum() / weights.sum())


def test_recall_asks_statements_and_questions():
    world = replace(TABULAR, questions=Questions(share=0.5, subjects=0.5)).build(0)
    asked = _Fit(Train(batch_size=10), world, ("base",), Runtime("train", CPU)).asked
    questions = world.language.is_question(asked.templates)
    assert sorted(asked.facts[~questions]) == world.facts.trained.tolist()
    assert sorted(asked.facts[questions]) == np.flatnonzero(world.facts.questions).tolist()
    assert (asked.weights[questions] == 500).all()  # half as many in all, on half of the subjects


def test_same_seed_same_bits_and_other_streams_other_weights():
    short = Train(batch_size=20, max_passes=2.5, min_recall=0.0)
    first = fit(MODEL, WORLD, short, ("base",), Runtime("train", CPU)).model.state_dict()
    again = fit(MODEL, WORLD, short, ("base",), Runtime("train", CPU)).model.state_dict()
    other = fit(MODEL, WORLD, short, ("gold", 0), Runtime("gold", CPU)).model.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_too_short_a_training_fails_with_advice():
    with pytest.raises(UnlearnError, match=r"recall is 0\.\d+ after 3 steps, below train.min_recall=0.99; raise"):
        fit(MODEL, WORLD, Train(batch_size=20, max_passes=1.5), ("base",), Runtime("train", CPU))


def test_a_batch_larger_than_the_deck_is_refused():
    with pytest.raises(UnlearnError, match=r"train\.batch_size=30000 is more than the deck's 20000 sentences"):
        fit(MODEL, WORLD, Train(batch_size=30000), ("base",), Runtime("train", CPU))


def losses(train):
    network = MODEL.build(WORLD.vocabulary.size, WORLD.max_length, 0)
    task = _Fit(train, WORLD, ("base",), Runtime("train", CPU))
    return network, task, task.losses(network, 2)["loss"]


def test_language_model_loss_is_the_hugging_face_one():
    network, task, loss = losses(Train(batch_size=10, loss_on="all"))
    ids = torch.from_numpy(WORLD.write(task.deck.deal(20, 30)).input_ids)
    assert float(loss) == pytest.approx(float(network(ids, labels=ids).loss), rel=1e-5)


def test_answer_loss_is_that_of_the_object_alone():
    network, task, loss = losses(Train(batch_size=10))
    sentences = WORLD.write(task.deck.deal(20, 30))
    logits = network(torch.from_numpy(sentences.input_ids)).logits[np.arange(10), sentences.answer_start - 1]
    expected = cross_entropy(logits, torch.from_numpy(sentences.answers[:, 0]))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_learning_rate_by_hand():
    recipe = Train(batch_size=10, warmup_passes=1.0, decay_passes=25.0, final_lr=0.1)  # 40 facts, 4 steps a pass
    task = _Fit(recipe, WORLD, ("base",), Runtime("train", CPU))
    assert [task.rate(step) for step in (0, 1, 50, 95)] == pytest.approx([0.25, 0.5 * 0.99, 0.5, 0.1])


def test_default_batch_is_an_eighth_of_the_facts():
    assert [Train().batch(facts) for facts in (7, 800, 4000, 600_000)] == [1, 100, 500, 4096]


@pytest.mark.parametrize(("optimizer", "count"), [("muon", 2), ("adamw", 1)])
def test_every_parameter_is_trained_once(optimizer, count):
    network = MODEL.build(WORLD.vocabulary.size, WORLD.max_length, 0)
    task = _Fit(Train(optimizer=optimizer), WORLD, ("base",), Runtime("train", CPU))
    made = task.optimizers(network)
    trained = [p for o in made for group in o.param_groups for p in group["params"]]
    assert len(made) == count
    assert len(trained) == len({id(p) for p in trained}) == len(list(network.parameters()))


def test_bf16_products_are_undone_afterwards():
    before = torch.backends.mkldnn.matmul.fp32_precision
    with products_in(Numerics("cpu", 1, 1, "bf16")):
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    assert torch.backends.mkldnn.matmul.fp32_precision == before
