"""Which requested facts a loss method trains on: the core, or a draw of its size; the rest are only asked."""

import copy
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.ensemble import IsolationForest

from unlearn_cli.errors import UnlearnError
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.finetune import Finetune
from unlearn_cli.methods.ft import FT
from unlearn_cli.methods.npo import NPO
from unlearn_cli.methods.select import Select
from unlearn_cli.methods.selecting import choose, core_size, inliers, prompt_states
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.streams import derive
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.grammar import Grammar
from unlearn_cli.worlds.tabular import Tabular

WORLD = Tabular(
    subjects=60, relations=2, objects=6, holdout_subjects=2, grammar=Grammar(templates=2, heldout=1, fillers=2)
).build(0)
CPU = Numerics("cpu", 1, 1, "fp32")
FORGET = WORLD.only(np.arange(0, 50, 2))
DATA = EditData(FORGET, np.arange(25) % 6, WORLD.only(np.arange(60, 100)))


@pytest.fixture(scope="module")
def base():
    return GPTNeoX(hidden_size=32, heads=2, mlp_size=64).build(WORLD.vocabulary.size, WORLD.max_length, 0).eval()


def edited(base, method, data=DATA, seed=0):
    model = copy.deepcopy(base)
    report = method.edit(model, data, EditContext(Runtime("edit", CPU), seed))
    return model, report


def chosen(base, seed=0, **settings):
    return choose(Select(**settings), copy.deepcopy(base), DATA, seed, torch.device("cpu"))


@pytest.mark.parametrize(("total", "size"), [(8, 7), (11, 10), (12, 10), (25, 22), (50, 45), (71, 64)])
def test_the_core_is_as_large_as_scikit_learn_makes_it(total, size):
    points = np.random.default_rng(total).normal(size=(total, 4))
    forest = IsolationForest(contamination=0.1, random_state=derive(5, "edit", "select") % 2**32)
    kept = np.flatnonzero(forest.fit_predict(points) == 1)
    assert len(np.unique(forest.score_samples(points))) == total  # no ties
    assert core_size(total, 0.1) == size == total - math.ceil((total - 1) / 10)
    assert inliers(points, size, 5).tolist() == kept.tolist()


def test_what_lies_far_off_is_left_out():
    points = np.random.default_rng(0).normal(size=(21, 3))
    points[[4, 17]] += 50
    assert inliers(points, core_size(21, 0.1), 0).tolist() == [row for row in range(21) if row not in (4, 17)]


def test_a_state_is_that_of_the_last_prompt_token_averaged_over_phrasings(base):
    states, tokens = prompt_states(base, FORGET, -1, torch.device("cpu"))
    by_hand, read = [], 0
    for fact in range(len(FORGET.facts)):
        found = []
        for template in FORGET.language.asked:
            sentence = FORGET.sentences(np.array([fact]), np.array([template]))
            end = int(sentence.answer_start[0])
            prompt = torch.from_numpy(sentence.input_ids[:, :end])
            inside = []
            hook = base.gpt_neox.layers[-1].register_forward_hook(lambda _, __, out, inside=inside: inside.append(out))
            base(input_ids=prompt)
            hook.remove()
            found.append(inside[0][0, -1].detach())
            read += end
        by_hand.append(torch.stack(found).mean(0))
    assert len(FORGET.language.asked) == 2 and tokens == read
    torch.testing.assert_close(torch.from_numpy(states).float(), torch.stack(by_hand), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["upcore", "random"])
def test_the_edit_is_that_of_the_core_alone(base, kind):
    select = Select(kind=kind)
    whole, report = edited(base, FT(steps=3, retain_batch=8, select=select))
    cut = chosen(base, kind=kind).data
    alone, plain = edited(base, FT(steps=3, retain_batch=8), cut)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), alone.parameters(), strict=True))
    assert dict(report.notes) == {"requested": 25, "trained_on": 22}
    assert (report.forward_tokens > plain.forward_tokens) == (kind == "upcore")  # it reads every state once


def test_targets_stay_with_their_facts(base):
    cut = chosen(base, kind="upcore").data
    pairs = dict(zip(FORGET.facts.subject.tolist(), DATA.target.tolist(), strict=True))
    assert [pairs[subject] for subject in cut.forget.facts.subject.tolist()] == cut.target.tolist()


def test_the_control_has_the_size_of_the_core_and_another_choice(base):
    core, drawn = (chosen(base, kind=kind).data.forget.facts.subject for kind in ("upcore", "random"))
    assert len(core) == len(drawn) == 22 and core.tolist() != drawn.tolist()


def test_a_seed_decides(base):
    first, again, other = (
        chosen(base, kind="random", seed=seed).data.forget.facts.subject.tolist() for seed in (1, 1, 2)
    )
    assert first == again != other
    a, b = (chosen(base, kind="upcore", seed=3).data.forget.facts.subject.tolist() for _ in range(2))
    assert a == b


@pytest.mark.parametrize("select", [Select(kind="upcore", contamination=0.0), Select(kind="none")])
def test_nothing_left_out_is_no_choice(base, select):
    plain, _ = edited(base, NPO(steps=3, retain_batch=8))
    whole, _ = edited(base, NPO(steps=3, retain_batch=8, select=select))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), whole.parameters(), strict=True))


def test_one_fact_alone_is_no_set_to_choose_from(base):
    one = EditData(FORGET.only(np.array([0])), None, DATA.retain)
    with pytest.raises(UnlearnError, match=r"method\.select\.kind: upcore chooses among facts, and the request has"):
        edited(base, NPO(steps=1, select=Select(kind="upcore")), one)


def test_a_method_without_requested_facts_has_nothing_to_choose():
    with pytest.raises(ValidationError, match=r"select\.kind = upcore: this method is given no requested facts"):
        Finetune(forget_weight=0.0, select=Select(kind="upcore"))
