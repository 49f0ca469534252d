"""What methods read of answers of different lengths: as of each sentence by itself; and what editors make of them."""

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from mixed import mixed
from torch.nn.attention import SDPBackend, sdpa_kernel

from unlearn_cli.evaluation import ProbeSet
from unlearn_cli.guards.base import Guarded
from unlearn_cli.machine import Numerics
from unlearn_cli.methods import hidden
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.columns import mlp_outputs, scores
from unlearn_cli.methods.continuations import continuations
from unlearn_cli.methods.curvature import GaussNewton
from unlearn_cli.methods.emmet import EMMET
from unlearn_cli.methods.fisher import diagonal
from unlearn_cli.methods.ft import FT
from unlearn_cli.methods.grace import GRACE
from unlearn_cli.methods.gradients import answer_probability, chunks, mean_gradient
from unlearn_cli.methods.hypernet import matrices, read_factors
from unlearn_cli.methods.loss import AnswerBatch, Place
from unlearn_cli.methods.memit import MEMIT
from unlearn_cli.methods.npo import NPO
from unlearn_cli.methods.output_filter import OutputFilter
from unlearn_cli.methods.rome import ROME
from unlearn_cli.methods.selecting import prompt_states
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.observations.patched import exchanged
from unlearn_cli.predict import predict
from unlearn_cli.training.fit import answer_loss, answer_mask, answered, read_answers
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.tabular import Tabular
from unlearn_cli.worlds.vocabulary import PADDING

CPU, DEVICE = Numerics("cpu", 1, 1, "fp32"), torch.device("cpu")
WORLD = mixed(Tabular(subjects=40, relations=3, objects=6, holdout_subjects=2, object_tokens=3).build(0))
FORGET, RETAIN = np.array([0, 7, 20]), np.arange(30, 110)
TARGET = (WORLD.facts.object[FORGET] + 1) % 6


@cache
def untrained():
    return GPTNeoX(hidden_size=32, heads=2, mlp_size=64).build(WORLD.vocabulary.size, WORLD.max_length, 0).eval()


@cache
def trained():
    """A model that knows the facts; nobody changes it."""
    model, facts = copy.deepcopy(untrained()), WORLD.only(np.arange(114))
    learn = FT(steps=200, lr=5e-3, stop_loss=0.05, retain_loss="none")
    learn.edit(model, EditData(facts, facts.facts.object, None), EditContext(Runtime("edit", CPU), 0))
    return model


def sentences(n=9):
    asked = WORLD.language.asked
    return WORLD.sentences(np.arange(n), asked[np.arange(n) % len(asked)])


def one(told, row):
    """A sentence by itself, as one whose object has all the tokens that there are."""
    ids = told.input_ids[row : row + 1, : told.length[row]]
    end = told.subject_end[row : row + 1]
    start, length = told.answer_start[row : row + 1], told.length[row : row + 1]
    return type(told)(ids, start, length, int(told.answer_lengths[row]), end)


def each(told):
    return [one(told, row) for row in range(len(told.length))]


def weighted(values, weights):
    """Of dictionaries of tensors."""
    total = sum(weights)
    return {name: sum(w * value[name] for w, value in zip(weights, values, strict=True)) / total for name in values[0]}


def assert_same(found, expected, tolerance=1e-4):
    for name, tensor in expected.items():
        assert float((found[name] - tensor).abs().max()) <= tolerance * float(tensor.abs().max()) + 1e-9, name


def edit(method, base, target=TARGET):
    model, runtime = copy.deepcopy(base), Runtime("edit", CPU)
    data = EditData(WORLD.only(FORGET), target, WORLD.only(RETAIN), WORLD.language)
    report = method.edit(model, data, EditContext(runtime, 0))
    return model, report, runtime.curves


def probes(facts):
    template = np.repeat(WORLD.language.asked[:1], len(facts))
    return ProbeSet(np.asarray(facts), template, WORLD.facts.subject[facts], WORLD.objects, {})


def test_the_fixture_has_both_lengths():
    assert set(sentences().answer_lengths) == {2, 3}
    old, new = (
        WORLD.language.answer_lengths(WORLD.facts.relation[FORGET], o) for o in (WORLD.facts.object[FORGET], TARGET)
    )
    assert set(old) == set(new) == {2, 3} and (old != new).all()


@torch.no_grad()
def test_answers_are_read_as_by_a_plain_forward_pass():
    model, told = untrained(), sentences()
    batch = AnswerBatch(*read_answers(model, told, DEVICE), mask=answer_mask(told, DEVICE))
    losses = []
    for row, alone in enumerate(each(told)):
        logps = model(torch.from_numpy(alone.input_ids)).logits[0].log_softmax(-1)
        start, tokens = int(alone.answer_start[0]), torch.from_numpy(alone.answers[0])
        expected = logps[torch.arange(len(tokens)) + start - 1, tokens]
        torch.testing.assert_close(batch.logps[row, : len(tokens)], expected, atol=1e-5, rtol=1e-5)
        losses.append(-expected)
    nll = torch.cat(losses).mean()
    torch.testing.assert_close(batch.nll, nll, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(answer_loss(model, told, DEVICE), nll, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_answer_is_right_where_it_is_right_by_itself():
    told = WORLD.sentences(np.arange(114, 120), np.repeat(WORLD.language.asked[:1], 6))
    known, told = sentences(12), [sentences(12), told]
    assert answered(trained(), known, DEVICE).float().mean() > 0.9
    for part in told:
        alone = torch.cat([answered(trained(), row, DEVICE) for row in each(part)])
        assert answered(trained(), part, DEVICE).tolist() == alone.tolist()


def test_gradients_weigh_every_token_alike(monkeypatch):
    model, told = untrained(), sentences()
    expected = weighted([mean_gradient(model, alone) for alone in each(told)], told.answer_lengths.tolist())
    assert_same(mean_gradient(model, told), expected)
    monkeypatch.setattr("unlearn_cli.methods.gradients.CHUNK", 4)
    monkeypatch.setattr(chunks, "__defaults__", (4,))
    assert_same(mean_gradient(model, told), expected)


def test_fisher_information_weighs_every_sentence_alike():
    model, told = untrained(), sentences()
    squares = [{n: g**2 for n, g in mean_gradient(model, alone).items()} for alone in each(told)]
    assert_same(diagonal(model, told), weighted(squares, [1] * 9))
    first, last = chunks(told, 5)
    batches = [{n: g**2 for n, g in mean_gradient(model, part).items()} for part in (first, last)]
    assert_same(diagonal(model, told, "per_batch", batch=5), weighted(batches, [5, 4]))


def test_the_gauss_newton_matrix_is_a_mean_over_tokens():
    model, told = untrained(), sentences(5)
    stream = torch.Generator().manual_seed(0)
    vector = {name: torch.randn(p.shape, generator=stream) for name, p in model.named_parameters()}
    with sdpa_kernel(SDPBackend.MATH):
        products = [GaussNewton(model, alone, list(vector)).product(vector) for alone in each(told)]
        found = GaussNewton(model, told, list(vector)).product(vector)
    assert_same(found, weighted(products, told.answer_lengths.tolist()), 1e-3)


@torch.no_grad()
def test_states_columns_and_probabilities_are_those_of_each_sentence():
    model, told = trained(), sentences()
    read = hidden.read(model, Place(-1, "answer"), told, DEVICE)
    alone = [hidden.read(model, Place(-1, "answer"), part, DEVICE) for part in each(told)]
    assert len(read.hidden) == told.answer_tokens
    torch.testing.assert_close(read.hidden, torch.cat([part.hidden for part in alone]), atol=1e-5, rtol=1e-4)
    outputs = mlp_outputs(model, {name for name, _ in model.named_parameters()})
    for how in (True, False):
        expected = torch.cat([scores(model, outputs, part, how) for part in each(told)])
        torch.testing.assert_close(scores(model, outputs, told, how), expected, atol=1e-5, rtol=1e-4)
    expected = np.mean([answer_probability(model, part) for part in each(told)])
    assert answer_probability(model, told) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_prompt_states_are_those_at_the_prompts_ends():
    model, asked = trained(), WORLD.language.asked
    states, _ = prompt_states(model, WORLD.only(np.arange(4)), -1, DEVICE)
    for fact in range(4):
        told = WORLD.sentences(np.full(len(asked), fact), asked)
        found = model(torch.from_numpy(told.input_ids), output_hidden_states=True)
        kept = []
        hook = model.gpt_neox.layers[-1].register_forward_hook(lambda _, __, out, kept=kept: kept.append(out))
        model(torch.from_numpy(told.input_ids))
        hook.remove()
        out = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
        expected = out[torch.arange(len(asked)), torch.from_numpy(told.answer_start - 1)].mean(0)
        assert len(found.hidden_states) == 3
        np.testing.assert_allclose(states[fact], expected.double().numpy(), atol=1e-4)


def test_factors_add_up_to_the_gradient_of_all_tokens():
    model, told = untrained(), sentences()
    found = matrices(model, "mlp")
    factors = read_factors(model, found, told, 1)
    gradient = mean_gradient(model, told)
    assert_same(
        {name: factor.delta[0] for name, factor in factors.items()},
        {name: gradient[f"{name}.weight"] * told.answer_tokens for name in factors},
    )


@torch.no_grad()
def test_states_are_exchanged_as_in_each_sentence():
    told = sentences()

    def found(part):
        ids, read = torch.from_numpy(part.through_answer[:, :-1]), torch.from_numpy(part.positions - 1)
        return exchanged(untrained(), trained(), ids, read, torch.from_numpy(part.answers), answer_mask(part, DEVICE))

    whole, alone = found(told), [found(part) for part in each(told)]
    for name, values in whole.items():
        expected = np.concatenate([part[name] for part in alone], axis=-1)
        np.testing.assert_allclose(values, expected, atol=1e-4)


def test_continuations_of_a_shorter_object_end_with_it():
    told = WORLD.candidates(0)
    counts = continuations(WORLD, np.zeros(6, dtype=int), told, WORLD.vocabulary.size)
    lengths = WORLD.candidate_lengths(0)
    for row, (word, length) in enumerate(zip(told, lengths, strict=True)):
        for place in range(3):
            if place >= length:
                assert counts[row, place].nonzero()[0].tolist() == [PADDING]
                continue
            alike = [o for o in range(6) if lengths[o] > place and (told[o, :place] == word[:place]).all()]
            assert counts[row, place].sum() == len(alike) and counts[row, place, word[place]] >= 1


def test_npo_starts_at_two_log_two_over_beta():
    """So the base's log-probabilities stand beside the model's in every place that counts, and no other."""
    curves = edit(NPO(steps=2, beta=1.7), trained(), target=None)[2]
    assert curves[0]["forget"] == pytest.approx(2 / 1.7 * np.log(2), rel=1e-5)
    assert curves[1]["forget"] < curves[0]["forget"]


@pytest.mark.parametrize("method", [ROME(), MEMIT(lam=10.0), EMMET()], ids=lambda m: type(m).__name__)
def test_editors_write_targets_of_other_lengths(method):
    edited, _, _ = edit(method, trained())
    asked = WORLD.language.asked
    facts, templates = np.repeat(FORGET, len(asked)), np.tile(asked, 3)
    told = WORLD.sentences(facts, templates, np.repeat(TARGET, len(asked)))
    before, after = (float(answered(model, told, DEVICE).float().mean()) for model in (trained(), edited))
    assert before < 0.1 and after > 0.9
    kept = [float(answered(model, sentences(60), DEVICE).float().mean()) for model in (trained(), edited)]
    assert kept[1] > kept[0] - 0.2
    weight = "gpt_neox.layers.1.mlp.dense_4h_to_h.weight"
    change = (edited.state_dict()[weight] - trained().state_dict()[weight]).double()
    tokens = WORLD.language.answer_lengths(WORLD.facts.relation[FORGET], TARGET).sum()
    assert int(torch.linalg.matrix_rank(change, rtol=1e-5)) == tokens  # a key for each token that there is


def test_rome_edits_one_fact_as_if_all_answers_had_its_length():
    """A fact of two tokens beside none of three: no padding at all."""
    fact = FORGET[[int(np.flatnonzero(TARGET % 2 == 1)[0])]]
    target = (WORLD.facts.object[fact] + 1) % 6
    made = []
    for width in (3, 2):
        world = replace(WORLD.only(fact), language=Narrow(WORLD.language, width))
        data = EditData(world, target, WORLD.only(RETAIN), WORLD.language)
        model = copy.deepcopy(trained())
        ROME().edit(model, data, EditContext(Runtime("edit", CPU), 0))
        made.append(model.state_dict())
    assert_same(made[0], made[1])


class Narrow:
    """A language whose sentences have so many places for an object's tokens."""

    def __init__(self, language, width):
        self.language, self.width = language, width

    def __getattr__(self, name):
        return getattr(self.language, name)

    def write(self, *given):
        told = self.language.write(*given)
        return replace(told, answer_length=self.width, answer_lengths=None if self.width == 2 else told.answer_lengths)


def test_grace_answers_its_prompts_and_touches_nothing_behind_an_answer():
    model, report, _ = edit(GRACE(eps_quantile=0.01), trained())
    book = report.guard
    lengths = (book.labels >= 0).sum(1)
    assert set(lengths.tolist()) == {2, 3}
    found = predict(Guarded(model, book), WORLD, probes(FORGET), 64)
    assert found.greedy.tolist() == TARGET.tolist()
    short = FORGET[TARGET % 2 == 1]
    told = WORLD.sentences(short, np.repeat(WORLD.language.asked[:1], len(short)), TARGET[TARGET % 2 == 1])
    ids, end = torch.from_numpy(told.input_ids), torch.from_numpy(told.answer_end)[:, None]
    with torch.no_grad():
        book.values[lengths == 2, 2] = 1e3  # a value that no token is to have
        before = predict(Guarded(model, book), WORLD, probes(FORGET), 64)
        behind = book.answer_logits(model, ids, end, torch.from_numpy(told.answer_start - 1))
    np.testing.assert_allclose(before.candidate_logps, found.candidate_logps, atol=1e-5)
    assert float(behind.abs().max()) < 100


def test_an_output_filter_moves_the_probability_of_whole_answers():
    model, report, _ = edit(OutputFilter(), trained(), target=None)
    asked = probes(np.concatenate([FORGET, RETAIN[:5]]))
    before, after = (predict(m, WORLD, asked, 64) for m in (model, Guarded(model, report.guard)))
    old = WORLD.facts.object[FORGET]
    p, q = np.exp(before.candidate_logps.astype(float)), np.exp(after.candidate_logps.astype(float))
    rows = np.arange(3)
    assert (q[rows, old] < 1e-9).all() and (p[rows, old] > 0.5).all()
    gained = np.exp(after.refusal_logps[:3].astype(float))
    np.testing.assert_allclose(gained, np.exp(before.refusal_logps[:3].astype(float)) + p[rows, old], rtol=1e-3)
    others = np.ones((3, 6), dtype=bool)
    others[rows, old] = False
    np.testing.assert_allclose(q[:3][others], p[:3][others], rtol=1e-3, atol=1e-12)
    assert (after.candidate_logps[3:] == before.candidate_logps[3:]).all()
    assert (after.greedy[:3] == REFUSAL).all()
