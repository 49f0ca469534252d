"""Guards on activations: key space detection and neuron adjustment, on numbers by hand and on small models."""

import numpy as np
import pytest
import torch
from guard_samples import (
    ARCHITECTURES,
    FORGET,
    RETAIN,
    WORLDS,
    accuracy,
    asked,
    guarded,
    logits_of,
    network,
    through_disk,
    trained,
)
from pydantic import ValidationError

from unlearn_cli.guards.hooks import hooked, keys
from unlearn_cli.guards.key_space import KeySpace
from unlearn_cli.guards.neurons import AdjustedNeurons, input_of, prefixes
from unlearn_cli.guards.refusal import refusal_logits, refuse
from unlearn_cli.methods.editing.network import blocks
from unlearn_cli.methods.key_boxes import around, largest
from unlearn_cli.methods.key_space_detection import KeySpaceDetection
from unlearn_cli.methods.neuron_adjust import NeuronAdjust
from unlearn_cli.methods.neuron_statistics import statistics

OTHERS = np.array([33, 50, 71, 90])


# --- the refusal


def test_refusal_logits_say_the_refusal_token_by_token():
    said = refusal_logits(torch.tensor([4, 2]), torch.tensor([[0, 1, 2]]), 6)
    assert said.argmax(-1).tolist() == [[4, 2, 2]]
    logps = said.log_softmax(-1)
    assert bool(logps.isfinite().all()) and float(logps.max(-1).values.min()) == 0
    assert refusal_logits(torch.tensor([4]), torch.tensor([[0]]), 6, "uniform").unique().tolist() == [0]


def test_only_answers_of_flagged_rows_are_refused():
    logits = torch.randn(2, 3, 6)
    positions, end = torch.tensor([[2, 3, 4], [2, 3, 4]]), torch.tensor([3, 3])
    made = refuse(logits, torch.tensor([True, False]), positions, end, torch.tensor([5]))
    assert torch.equal(made[1], logits[1]) and torch.equal(made[0, 0], logits[0, 0])
    assert made[0, 1:].argmax(-1).tolist() == [5, 5]


def test_hooks_are_gone_even_if_the_call_fails():
    module = torch.nn.Linear(2, 2)

    def fail(_, out):
        raise RuntimeError

    with pytest.raises(RuntimeError), hooked([(module, lambda _, out: out), (module, fail)]):
        module(torch.zeros(1, 2))
    assert not module._forward_hooks


# --- key space


def test_boxes_by_hand():
    found = torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 6.0]])[None, :, None]  # one box, three keys, one layer
    center, reach = around(found)
    assert center.flatten().tolist() == [2.0, 2.0]
    k = 4 / 12**0.5  # |6 - 2| / s, s^2 = (4 + 4 + 16) / 2, is more than |4 - 2| / 2
    assert reach.flatten().tolist() == pytest.approx([2 * k, 4.0], rel=1e-4)


def test_one_key_and_a_constant_dimension_have_boxes_of_almost_no_width():
    center, reach = around(torch.tensor([[1.0, 3.0]])[None, :, None])
    assert center.flatten().tolist() == [1.0, 3.0] and bool((reach > 0).all()) and float(reach.max()) < 1e-5
    assert bool((around(torch.tensor([[1.0, 3.0], [2.0, 3.0]])[None, :, None])[1] > 0).all())


@pytest.mark.parametrize(("require", "scores"), [("any", [0.5, 1.0]), ("all", [2.0, 3.0])])
def test_a_score_is_the_gamma_that_flags_a_key(require, scores):
    guard = KeySpace([0, 1], require, 1.0, "onehot", 2, 1, 1)
    guard.center = torch.tensor([[[0.0], [0.0]], [[10.0], [10.0]]])  # two boxes in two layers of one dimension
    guard.reach = torch.tensor([[[2.0], [1.0]], [[1.0], [1.0]]])
    assert guard.scores(torch.tensor([[[1.0], [2.0]], [[7.0], [9.0]]])).tolist() == scores


def test_the_largest_gamma_for_a_rate():
    scores = torch.tensor([0.4, 0.1, 0.3, 0.2])
    for rate, flagged in ((0.0, 0), (0.25, 1), (0.6, 2), (1.0, 4)):
        assert int((scores <= largest(scores, rate)).sum()) == flagged
    assert largest(scores, 0.25) > 0.19


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("boxes", ["fact", "request"])
def test_whole_boxes_hold_every_forget_prompt_and_empty_ones_none(kind, boxes):
    model = network(kind)
    how = {"layers": None, "require": "all", "boxes": boxes, "false_positive_rate": None}
    whole, report = guarded(KeySpaceDetection(gamma=1.0, **how), model)
    ids, _, end, _ = asked(FORGET)
    assert bool(whole.flagged(model, ids, end).all()) and report.notes["forget_flagged"] == 1
    none, _ = guarded(KeySpaceDetection(gamma=0.0, **how), model)
    assert not bool(none.flagged(model, ids, end).any()) and float(none.scores(none.center).max()) == 0
    assert torch.equal(logits_of(model, FORGET, none), logits_of(model, FORGET))


def test_more_is_flagged_as_boxes_grow_and_the_rest_is_the_models_own():
    model, before = trained(), 0
    ids, _, end, _ = asked(np.concatenate([FORGET, OTHERS]))
    for gamma in (0.0, 0.5, 1.0, 4.0, 100.0):
        guard, _ = guarded(KeySpaceDetection(layers=[-1], gamma=gamma, false_positive_rate=None), model)
        flagged = guard.flagged(model, ids, end)
        assert int(flagged.sum()) >= before
        before = int(flagged.sum())
        given, own = (logits_of(model, np.concatenate([FORGET, OTHERS]), who) for who in (guard, None))
        assert torch.equal(given[~flagged], own[~flagged])
        assert bool((given[flagged].argmax(-1) == guard.refusal).all())
    assert before > 48


def test_as_shipped_it_hides_the_facts_and_few_others():
    model = trained()
    guard, report = guarded(KeySpaceDetection(), model)
    assert accuracy(model, FORGET) > 0.95 and accuracy(model, FORGET, guard) < 0.1
    assert report.notes["retain_flagged"] <= 0.01
    others = np.setdiff1d(np.arange(114), [*FORGET, *RETAIN])
    assert accuracy(model, others, guard) > accuracy(model, others) - 0.15


def test_flat_logits_in_place_of_the_refusal():
    how = KeySpaceDetection(refusal_logits="uniform", gamma=1.0, false_positive_rate=None)
    guard, _ = guarded(how, trained())
    assert logits_of(trained(), FORGET, guard).unique().tolist() == [0]


def test_what_is_behind_the_prompt_decides_nothing():
    guard, _ = guarded(KeySpaceDetection(), trained())
    ids, _, end, _ = asked(FORGET)
    before = guard.scores(keys(trained(), [0, 1], ids, end))
    ids[torch.arange(len(ids)), end + 1] = 3
    torch.testing.assert_close(guard.scores(keys(trained(), [0, 1], ids, end)), before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("given", [{"gamma": 0.06}, {"false_positive_rate": None}])
def test_gamma_is_given_once(given):
    with pytest.raises(ValidationError, match="give one and set the other to null"):
        KeySpaceDetection(**given)


# --- neurons


def neurons(f=(2.0, 1.0), r=(0.0, 2.0), deterministic=True, count=1, seed=0):
    """One block's first neurons with these means and standard deviations."""
    guard = AdjustedNeurons(count, deterministic, seed)
    guard.unit = torch.arange(count)
    columns = {"forget_mean": f[0], "forget_std": f[1], "retain_mean": r[0], "retain_std": r[1]}
    for name, value in columns.items():
        setattr(guard, name, torch.full((count,), value))
    return guard


def adjusted(guard, x, chance=None):
    x = torch.as_tensor(x)
    chance = torch.zeros_like(x) if chance is None else chance
    return guard.adjusted(x[:, None], chance[:, None], torch.tensor([0]))[:, 0]


def test_a_shift_with_reflection_by_hand():
    guard = neurons()
    # at 3: N_f ~ e^-.5, N_r ~ e^-1.125 / 2, so it moves to 0 - 2 (3 - 2) / 1
    assert adjusted(guard, [3.0]).tolist() == [-2.0]
    odds = np.exp(-0.5) / (np.exp(-0.5) + np.exp(-1.125) / 2)
    assert adjusted(guard, [3.0, 3.0], torch.tensor([odds - 1e-4, odds + 1e-4])).tolist() == [-2.0, 3.0]


def test_a_neuron_likelier_on_retain_texts_never_moves():
    x = torch.linspace(-9, 9, 1001)
    normal = torch.distributions.Normal
    likelier = normal(0.0, 2.0).log_prob(x) > normal(2.0, 1.0).log_prob(x)
    after = adjusted(neurons(), x)
    assert torch.equal(after[likelier], x[likelier]) and bool((after[~likelier] != x[~likelier]).all())


@pytest.mark.parametrize("deterministic", [True, False])
def test_with_equal_distributions_the_mean_stays(deterministic):
    x = torch.linspace(-3, 3, 601) + 1
    chance = torch.zeros_like(x) if deterministic else torch.rand(601, generator=torch.Generator().manual_seed(0))
    after = adjusted(neurons((1.0, 1.0), (1.0, 1.0)), x, chance)
    assert float(after.mean()) == pytest.approx(1.0, abs=1e-4 if deterministic else 0.15)
    share = float((after != x).float().mean())
    assert share > 0.99 if deterministic else 0.4 < share < 0.6


def test_chance_is_uniform_and_hangs_on_the_tokens_so_far_alone():
    guard = neurons(deterministic=False, count=50)
    members = torch.arange(50)
    ids = torch.randint(0, 90, (40, 10), generator=torch.Generator().manual_seed(0))
    draws = guard._draws(prefixes(ids), members)
    assert float(draws.min()) >= 0 and float(draws.max()) < 1
    counts = torch.histc(draws.float(), 10, 0, 1) / draws.numel()
    assert bool(((counts - 0.1).abs() < 0.01).all())
    flat = torch.corrcoef(
        torch.stack([draws[..., 0].flatten(), draws[..., 1].flatten(), draws[:, :, 0].roll(1, 1).flatten()])
    )
    assert float((flat - torch.eye(3)).abs().max()) < 0.2
    assert torch.equal(guard._draws(prefixes(ids[7:9, :4]), members), draws[7:9, :4])
    assert not torch.equal(neurons(deterministic=False, count=50, seed=1)._draws(prefixes(ids), members), draws)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_no_neuron_and_no_likely_neuron_leave_the_models_own_logits(kind):
    model = network(kind)
    none, _ = guarded(NeuronAdjust(percent=0.0), model)
    assert len(none.unit) == 0
    for guard in (none, neurons(f=(1e3, 1.0), r=(0.0, 1.0), count=8)):
        assert torch.equal(logits_of(model, FORGET, guard), logits_of(model, FORGET))


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("everywhere", [True, False])
def test_statistics_are_those_of_the_tokens_that_count(kind, everywhere):
    model, world, seen = network(kind), WORLDS[2], []
    sentences = world.sentences(FORGET, world.language.asked[[0, 3, 5]])
    with torch.no_grad(), hooked([(input_of(block), lambda _, out: seen.append(out)) for block in blocks(model)]):
        model(input_ids=torch.from_numpy(sentences.input_ids))
    rows = [range(n) for n in sentences.length] if everywhere else (sentences.positions - 1).tolist()
    mean, std = statistics(model, sentences, everywhere, torch.device("cpu"))
    for layer, out in enumerate(seen):
        counted = torch.cat([out[row, list(places)] for row, places in enumerate(rows)]).double()
        torch.testing.assert_close(mean[layer], counted.mean(0), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(std[layer], counted.std(0, correction=0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_neurons_that_differ_most_are_watched(kind):
    model = network(kind)
    guard, report = guarded(NeuronAdjust(percent=10.0), model)
    every, _ = guarded(NeuronAdjust(percent=100.0), model)
    assert len(guard.unit) == round(len(every.unit) / 10) == report.notes["neurons"]
    gaps = (every.forget_mean - every.retain_mean).sort(descending=True).values
    torch.testing.assert_close(guard.forget_mean - guard.retain_mean, gaps[: len(guard.unit)])
    assert len(set(zip(every.layer.tolist(), every.unit.tolist(), strict=True))) == len(every.unit)


def test_rows_are_read_alike_in_any_batch():
    model = trained()
    guard, _ = guarded(NeuronAdjust(percent=20.0), model)
    ids, positions, end, _ = asked(np.concatenate([FORGET, OTHERS]))
    with torch.no_grad():
        together = guard.answer_logits(model, ids, positions, end)
        apart = torch.cat(
            [
                guard.answer_logits(model, *part)
                for part in zip(*(x.split(7) for x in (ids, positions, end)), strict=True)
            ]
        )
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=0)
    assert not torch.equal(together, logits_of(model, np.concatenate([FORGET, OTHERS])))


def test_what_is_requested_suffers_more_than_other_relations():
    model, relation = trained(), WORLDS[2].facts.relation
    seen = np.setdiff1d(np.arange(114), RETAIN)
    mine, others = seen[relation[seen] == 0], seen[relation[seen] != 0]
    guard, _ = guarded(NeuronAdjust(percent=20.0), model, facts=mine)
    assert accuracy(model, mine, guard) < accuracy(model, mine) - 0.2
    assert accuracy(model, mine, guard) < accuracy(model, others, guard) - 0.05


# --- both


@pytest.mark.parametrize("method", [KeySpaceDetection(), NeuronAdjust(percent=20.0)])
def test_same_seed_same_bits_and_through_disk(method, tmp_path):
    model = trained()
    guard, again = (guarded(method, model)[0] for _ in range(2))
    assert guard.config == again.config
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in guard.state_dict().items())
    loaded = through_disk(guard, model, tmp_path)
    assert loaded.guard.config == guard.config
    both = np.concatenate([FORGET, OTHERS])
    assert torch.equal(logits_of(loaded.model, both, loaded.guard), logits_of(model, both, guard))
