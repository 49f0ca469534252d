"""Predictions where objects differ in their number of tokens equal those of each candidate by itself."""

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from mixed import mixed

from unlearn_cli.edits.forget import Forget
from unlearn_cli.evaluation import OTHER
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.ft import FT
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.predict import _ask, _ask_each, predict
from unlearn_cli.splits import ProbeSizes, build_probes
from unlearn_cli.streams import generator
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.language import Language
from unlearn_cli.worlds.tabular import Tabular
from unlearn_cli.worlds.vocabulary import PADDING

PLAIN = Tabular(subjects=30, relations=2, objects=7, holdout_subjects=3, object_tokens=3).build(0)
WORLD = mixed(PLAIN)
REQUEST = Forget(n=5).resolve(WORLD, generator(0, "edit"))
PROBES = build_probes(WORLD, REQUEST, np.arange(10), ProbeSizes(5, 2))


@pytest.fixture(scope="module")
def network():
    """Half trained, so that greedy decoding spells objects in some prompts and not in others."""
    made = GPTNeoX(hidden_size=32, heads=2, mlp_size=64).build(WORLD.vocabulary.size, WORLD.max_length, 0)
    runtime = Runtime("train", Numerics("cpu", 1, 1, "fp32"))
    FT(steps=12, lr=5e-3, retain_loss="none").edit(made, EditData(WORLD, None, None), EditContext(runtime, 0))
    return made.eval()


@torch.no_grad()
def alone(network, row, candidate):
    """Log-probability of a candidate in the prompt of a probe by a plain forward pass, and its greedy tokens."""
    told = WORLD.sentences(PROBES.fact[[row]], PROBES.template[[row]], np.array([candidate]))
    logps = network(torch.from_numpy(told.input_ids)).logits.log_softmax(-1)[0]
    start, length = int(told.answer_start[0]), int(told.answer_lengths[0])
    tokens = told.input_ids[0, start : start + length]
    expected = sum(float(logps[start + place - 1, token]) for place, token in enumerate(tokens))
    greedy = all(int(logps[start + place - 1].argmax()) == token for place, token in enumerate(tokens))
    return expected, greedy


def test_every_candidate_is_scored_by_its_own_tokens(network):
    found = predict(network, WORLD, PROBES, batch_size=64)
    for row in (0, 40, len(PROBES) - 1):
        said = []
        for candidate in range(7):
            expected, greedy = alone(network, row, candidate)
            assert found.candidate_logps[row, candidate] == pytest.approx(expected, abs=1e-4)
            said += [candidate] * greedy
        expected, greedy = alone(network, row, REFUSAL)
        assert found.refusal_logps[row] == pytest.approx(expected, abs=1e-4)
        said += [REFUSAL] * greedy
        assert found.greedy[row] == (said[0] if said else OTHER)  # no object begins another here


def test_greedy_is_what_generate_spells(network):
    found = predict(network, WORLD, PROBES, batch_size=64).greedy
    told = WORLD.sentences(PROBES.fact, PROBES.template)
    expected = np.full(len(PROBES), OTHER)
    for row, relation in enumerate(WORLD.facts.relation[PROBES.fact]):
        prompt = torch.from_numpy(told.input_ids[[row], : told.answer_start[row]])
        spelled = network.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=3, do_sample=False, pad_token_id=PADDING
        )[0, prompt.shape[1] :].tolist()
        for candidate, length in enumerate(WORLD.candidate_lengths(int(relation))):
            if spelled[:length] == WORLD.candidates(int(relation))[candidate, :length].tolist():
                expected[row] = candidate
    assert found.tolist() == expected.tolist()
    assert set(WORLD.candidate_lengths(0)[expected[expected >= 0]]) == {2, 3} and (expected == OTHER).any()


@torch.no_grad()
def test_candidates_of_one_length_are_scored_alike_either_way(network):
    told = PLAIN.sentences(np.arange(8), PLAIN.language.asked[np.arange(8) % 2])
    candidates = np.concatenate([PLAIN.candidates(0), PLAIN.refusal])
    one = _ask(network, told, candidates, 64)
    other = _ask_each(network, told, candidates, np.full(len(candidates), 3), 64)
    np.testing.assert_allclose(one[0], other[0], atol=2e-5)
    assert one[1].tolist() == other[1].tolist()


def test_batch_size_changes_nothing_beyond_rounding(network):
    whole, single = predict(network, WORLD, PROBES, 4096), predict(network, WORLD, PROBES, 7)
    np.testing.assert_allclose(whole.candidate_logps, single.candidate_logps, atol=2e-5)
    assert whole.greedy.tolist() == single.greedy.tolist()


@dataclass(frozen=True, eq=False)
class Nested(Language):
    """Object 1 is what object 0 begins with."""

    def answers(self, relation, objects):
        short = objects == 1
        tokens = super().answers(relation, np.where(short, 0, objects))
        tokens[short, -1] = PADDING
        return tokens

    def answer_lengths(self, relation, objects):
        return np.where(objects == 1, self._width - 1, self._width)


def test_of_objects_that_begin_each_other_the_longest_that_is_spelled_is_the_answer(network):
    language = Nested(**{column.name: getattr(PLAIN.language, column.name) for column in fields(PLAIN.language)})
    world = replace(PLAIN, language=language)
    spelled = world.candidates(0)[0]

    class Speller(torch.nn.Module):
        """Says the tokens of object 0, the last one in every second row only."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, input_ids, logits_to_keep, use_cache):
            logits = torch.zeros(*input_ids.shape, world.vocabulary.size)
            logits[input_ids == 4, spelled[0]] = 1  # behind the object mark
            logits[input_ids == spelled[0], spelled[1]] = 1
            odd = torch.arange(len(input_ids)) % 2 == 1
            logits[odd[:, None] & (input_ids == spelled[1]), spelled[2]] = 1
            return type("Out", (), {"logits": logits[:, logits_to_keep]})

    facts = np.flatnonzero(world.facts.relation == 0)[:6]
    probes = replace(PROBES.only(np.arange(6)), fact=facts, template=np.repeat(world.language.asked[:1], 6))
    found = predict(Speller(), world, probes, batch_size=64)
    assert found.greedy.tolist() == [1, 0] * 3
    assert (found.candidate_logps[:, 1] >= found.candidate_logps[:, 0]).all()
