"""Going back along an edit's path: which model is kept, and what a guess from retain facts is worth."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from unlearn_cli.machine import Numerics
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.ft import FT
from unlearn_cli.methods.loss import Adapter
from unlearn_cli.methods.rewind import Rewind, guessed
from unlearn_cli.methods.rewinding import Path
from unlearn_cli.methods.scrub import SCRUB
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.training.fit import read_answers
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.grammar import Grammar
from unlearn_cli.worlds.tabular import Tabular

GRAMMAR = Grammar(templates=2, heldout=1, fillers=2)
WORLD = Tabular(subjects=22, relations=2, objects=6, holdout_subjects=2, object_tokens=2, grammar=GRAMMAR).build(0)
FORGET, RETAIN = WORLD.only(np.arange(0, 10, 2)), WORLD.only(np.arange(12, 40))
CPU = Numerics("cpu", 1, 1, "fp32")


def edit(method, base):
    model = copy.deepcopy(base)
    report = method.edit(model, EditData(FORGET, None, RETAIN), EditContext(Runtime("edit", CPU), 0))
    return model, report


@pytest.fixture(scope="module")
def base():
    model = GPTNeoX(hidden_size=32, heads=2, mlp_size=64).build(WORLD.vocabulary.size, WORLD.max_length, 0)
    learn = FT(steps=400, lr=1e-2, retain_loss="none", stop_loss=0.01)
    learn.edit(model, EditData(WORLD, None, None), EditContext(Runtime("train", CPU), 0))
    return model


@torch.no_grad()
def accuracy(model):
    """On the requested facts, in both trained phrasings."""
    facts, templates = np.repeat(np.arange(5), 2), np.tile(WORLD.language.asked, 5)
    logits, labels = read_answers(model, FORGET.sentences(facts, templates), torch.device("cpu"))
    return float((logits.argmax(-1) == labels).all(-1).double().mean())


def same_bits(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def scrub(rounds, steps, lr=2e-3, **settings):
    return SCRUB(steps=steps, rounds=rounds, min_steps=2, max_steps=2, lr=lr, warmup_steps=0, **settings)


@pytest.mark.parametrize(
    ("wanted", "settings"),
    [(None, {}), (0.45, {}), (0.45, {"lr": 1e-2, "adapter": Adapter(rank=4)})],
)
def test_the_model_kept_is_the_last_of_those_nearest_to_the_reference(base, monkeypatch, wanted, settings):
    if wanted is None:
        wanted = guessed(FORGET, RETAIN)
    else:
        monkeypatch.setattr("unlearn_cli.methods.scrub.guessed", lambda forget, retain: wanted)
    path = {4 * turn + 2: edit(scrub(turn, 4 * turn + 2, **settings), base)[0] for turn in (1, 2, 3, 4)}
    path[20] = edit(scrub(4, 20, **settings), base)[0]
    gaps = {step: abs(accuracy(model) - wanted) for step, model in path.items()}
    nearest = max(step for step in path if gaps[step] == min(gaps.values()))
    model, report = edit(scrub(4, 20, rewind=True, **settings), base)
    assert report.steps == 20 and report.notes["kept_step"] == nearest
    assert report.notes["wanted_accuracy"] == wanted and report.notes["kept_accuracy"] == accuracy(model)
    assert same_bits(model, path[nearest])
    assert wanted != 0.45 or nearest < 20


def test_what_was_kept_comes_back_whatever_happens_after(base):
    model = copy.deepcopy(base)
    path = Path(Rewind(1.0, lambda step: True), FORGET)
    path.look(model, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    path.look(model, 4)
    assert path.go_back(model) == {"kept_step": 3, "kept_accuracy": 1.0, "wanted_accuracy": 1.0}
    assert same_bits(model, base)


def test_looking_is_paid_for(base):
    seen, blind = (edit(scrub(2, 10, rewind=rewind), base)[1] for rewind in (True, False))
    once = FORGET.sentences(np.repeat(np.arange(5), 2), np.tile(WORLD.language.asked, 5))
    read = int((once.answer_start + once.answer_length - 1).sum())
    assert seen.forward_tokens - blind.forward_tokens == 2 * read  # after steps 6 and 10
    assert seen.backward_tokens == blind.backward_tokens and not blind.notes


def test_a_guess_is_worth_the_share_of_the_object_among_retain_facts():
    relation = np.array([0, 0, 0, 1])
    retain = replace(RETAIN, facts=RETAIN.facts.only(np.arange(4)))
    retain = replace(retain, facts=replace(retain.facts, relation=np.zeros(4, int), object=np.array([2, 2, 2, 5])))
    forget = replace(FORGET, facts=FORGET.facts.only(np.arange(4)))
    forget = replace(forget, facts=replace(forget.facts, relation=relation, object=np.array([2, 5, 0, 3])))
    assert guessed(forget, retain) == pytest.approx((3 / 4 + 1 / 4 + 0 + 1 / 6) / 4)
