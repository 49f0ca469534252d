"""Methods that write other answers: which ones, and what their users are told."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods.alternatives import one_of, other_objects, refusals, resampled, shuffled_objects
from unlearn_cli.methods.altpo import AltPO
from unlearn_cli.methods.bad_teacher import BadTeacher
from unlearn_cli.methods.dpo import DPO
from unlearn_cli.methods.flat import FLAT
from unlearn_cli.methods.ga import GA
from unlearn_cli.methods.idk import IDK
from unlearn_cli.methods.llmu import LLMU
from unlearn_cli.methods.loss import AnswerBatch, Draw
from unlearn_cli.methods.random_label import RandomLabel
from unlearn_cli.methods.scrub import SCRUB
from unlearn_cli.methods.undial import UNDIAL
from unlearn_cli.methods.whp import WHP
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.tabular import Tabular

WORLD = Tabular(subjects=40, relations=2, objects=6, holdout_subjects=2, object_tokens=2).build(0)


def narrowed(world, counts):
    """The same facts in relations with `counts` objects; what is beyond the last is folded back."""
    counts = np.array(counts)
    objects = world.facts.object % counts[world.facts.relation]
    return replace(
        world, facts=replace(world.facts, object=objects), relations=replace(world.relations, objects=counts)
    )


def draw_of(world, facts, step=0, seed=0):
    facts = np.asarray(facts)
    places = np.zeros(len(facts), dtype=np.int64)
    return Draw(world, facts, places, world.language.asked[places], None, np.random.default_rng(step), seed)


def test_other_objects_are_uniform_over_the_relations_others():
    world = narrowed(WORLD, [3, 6])
    facts = np.repeat(np.arange(len(world.facts)), 60)
    drawn, truth = other_objects(np.random.default_rng(0), world, facts), world.facts.object[facts]
    assert (drawn != truth).all() and (drawn >= 0).all()
    for relation, count in enumerate([3, 6]):
        here = world.facts.relation[facts] == relation
        for true in range(count):
            found = np.bincount(drawn[here & (truth == true)], minlength=count)
            assert len(found) == count and found[true] == 0
            others = np.delete(found, true) / found.sum()
            assert others == pytest.approx(np.full(count - 1, 1 / (count - 1)), abs=0.12)


def test_a_relation_with_one_object_has_no_other():
    world = narrowed(WORLD, [1, 6])
    with pytest.raises(UnlearnError, match="relation 0 has one object only"):
        other_objects(np.random.default_rng(0), world, np.arange(len(world.facts)))
    second = np.flatnonzero(world.facts.relation == 1)
    assert len(other_objects(np.random.default_rng(0), world, second)) == len(second)


def test_shuffled_objects_are_those_of_other_requested_facts():
    relation, objects = WORLD.facts.relation, WORLD.facts.object
    first = [int(np.flatnonzero((relation == 0) & (objects == o))[0]) for o in (0, 1, 1, 4)]
    lone = int(np.flatnonzero(relation == 1)[0])
    world = WORLD.only(np.array([*first, lone]))
    drawn = [shuffled_objects(np.random.default_rng(i), world, np.arange(5)) for i in range(200)]
    seen = [set(column.tolist()) for column in np.stack(drawn).T]
    assert seen[:4] == [{1, 4}, {0, 4}, {0, 4}, {0, 1}]
    assert seen[4] == set(range(6)) - {int(objects[lone])}  # none to exchange with: any other of the relation
    assert np.mean(np.stack(drawn)[:, 0] == 1) == pytest.approx(2 / 3, abs=0.12)  # two facts have object 1


@pytest.mark.parametrize("sampler", ["other_object", "shuffle"])
def test_labels_drawn_once_stay_and_labels_drawn_each_step_do_not(sampler):
    once, step = RandomLabel(sampler=sampler, resample="once"), RandomLabel(sampler=sampler)
    facts = np.arange(30)
    first = once.answers(draw_of(WORLD, facts, step=0))
    assert (once.answers(draw_of(WORLD, facts[::-1], step=1)) == first[::-1]).all()
    assert (once.answers(draw_of(WORLD, facts, seed=1)) != first).any()
    fresh = [step.answers(draw_of(WORLD, facts, step=number)) for number in range(3)]
    assert (fresh[0] != fresh[1]).any() and (fresh[1] != fresh[2]).any()
    assert all((labels != WORLD.facts.object[facts]).all() for labels in [first, *fresh])


def test_altpo_keeps_to_its_alternates():
    facts = np.arange(30)
    draws = [one_of(other_objects, draw_of(WORLD, facts, step), 2) for step in range(40)]
    counts = {len(set(column.tolist())) for column in np.stack(draws).T}
    assert counts == {1, 2}  # the two may coincide
    assert (np.stack(draws) != WORLD.facts.object[facts]).all()
    assert (
        AltPO(alternates=1).alternatives(draw_of(WORLD, facts, 5)) == one_of(other_objects, draw_of(WORLD, facts), 1)
    ).all()


def test_refusing_methods_write_the_refusal():
    draw = draw_of(WORLD, [3, 1])
    assert refusals(draw).tolist() == [REFUSAL, REFUSAL]
    assert IDK().answers(draw).tolist() == [REFUSAL, REFUSAL]
    for method in (DPO(), FLAT()):
        assert method.answers(draw).tolist() == draw.old.tolist()
        assert method.alternatives(draw).tolist() == [REFUSAL, REFUSAL]


@pytest.mark.parametrize("step", ["other_object", "shuffle"])
def test_resampled_draws_for_any_order_of_facts(step):
    sampler = {"other_object": other_objects, "shuffle": shuffled_objects}[step]
    few = resampled(sampler, draw_of(WORLD, [7, 2]), "once")
    assert few.tolist() == resampled(sampler, draw_of(WORLD, [2, 7]), "once")[::-1].tolist()


def test_adversarial_labels_are_the_likeliest_wrong_tokens():
    p = torch.tensor([[[0.6, 0.3, 0.1], [0.2, 0.1, 0.7]]])
    batch = AnswerBatch(p.log(), torch.tensor([[0, 1]]))
    loss = RandomLabel(sampler="adversarial").forget_loss(batch)
    assert float(loss) == pytest.approx(-(math.log(0.3) + math.log(0.7)) / 2)
    base = torch.tensor([[[0.6, 0.1, 0.3], [0.7, 0.1, 0.2]]]).log()
    fixed = replace(batch, teachers={"base": base})
    loss = RandomLabel(sampler="adversarial", resample="once").forget_loss(fixed)
    assert float(loss) == pytest.approx(-(math.log(0.1) + math.log(0.2)) / 2)


def test_labels_drawn_anew_are_fitted_by_the_uniform_distribution():
    """Over all draws the loss is least where each other object has probability 1 / (K - 1)."""
    logits = torch.zeros(1, 1, 6, dtype=torch.float64, requires_grad=True)
    others = [AnswerBatch(logits, torch.tensor([[o]])) for o in range(1, 6)]
    start = gradient(sum(RandomLabel().forget_loss(b) for b in others) / 5, logits)[0, 0]
    assert start.tolist() == pytest.approx([1 / 6] + [1 / 6 - 1 / 5] * 5)
    best = torch.tensor([[[-60.0, 0, 0, 0, 0, 0]]], dtype=torch.float64, requires_grad=True)
    others = [AnswerBatch(best, torch.tensor([[o]])) for o in range(1, 6)]
    assert float(gradient(sum(b.nll for b in others), best).abs().max()) < 1e-12


def of_probabilities(*rows):
    """One-token answers of label 0 with these probabilities, over a vocabulary of two."""
    p = torch.tensor(rows, dtype=torch.float64)
    return AnswerBatch(torch.stack([p.log(), (1 - p).log()], -1)[:, None], torch.zeros(len(p), 1, dtype=torch.long))


def gradient(loss, logits):
    return torch.autograd.grad(loss, logits, retain_graph=True)[0]


def test_llmu_by_hand_and_without_its_other_terms():
    batch = of_probabilities(0.5, 0.8)
    other = of_probabilities(0.1, 0.2)
    expected = 0.5 * (math.log(0.5) + math.log(0.8)) / 2 - 2 * (math.log(0.1) + math.log(0.2)) / 2
    loss = LLMU(ascent_weight=0.5, random_weight=2.0).forget_loss(replace(batch, alternative=other))
    assert float(loss) == pytest.approx(expected)
    alone = LLMU(ascent_weight=1.0, random_weight=0.0, retain_loss="none")
    assert alone.alternatives(draw_of(WORLD, [0])) is None and alone.needs == {"forget"}
    assert float(alone.forget_loss(batch)) == float(GA(retain_loss="none").forget_loss(batch))
    assert (LLMU().alternatives(draw_of(WORLD, [0, 1])) != WORLD.facts.object[:2]).all()


def test_notes_say_what_is_not_learnt():
    assert IDK().note("refuse") is None and DPO().note("refuse_qa") is None and FLAT().note("forget") is None
    for method in (IDK(), DPO(), FLAT(), AltPO(), RandomLabel(), UNDIAL(), LLMU(), SCRUB(), BadTeacher(), WHP()):
        assert "forgets the old objects of a remap edit" in method.note("remap")
    assert "not shown the new ones" in AltPO().note("refuse")


def test_contradictions_are_refused():
    for method in (IDK, RandomLabel):
        with pytest.raises(ValueError, match=r"stop_accuracy = 0.1: accuracy is on the answers that are written"):
            method(stop_accuracy=0.1)
    with pytest.raises(ValueError, match="retain_loss = nll: scrub has its own"):
        SCRUB(retain_loss="nll")
    with pytest.raises(ValueError, match="scrub takes turns"):
        SCRUB(forget_weight=0.0)
    with pytest.raises(ValueError, match="rounds = 9: of 7 steps each do not fit in steps = 60"):
        SCRUB(rounds=9)
