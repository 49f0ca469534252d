"""GRACE: how its codebook is laid out, what it answers, and what it leaves alone."""

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

from unlearn_cli.errors import UnlearnError
from unlearn_cli.guards.grace import Codebook, replaced, slots_of
from unlearn_cli.guards.hooks import keys
from unlearn_cli.methods.codebook import lay_out
from unlearn_cli.methods.editing.network import blocks
from unlearn_cli.methods.grace import GRACE
from unlearn_cli.worlds.facts import REFUSAL

TARGET = (WORLDS[2].facts.object[FORGET] + 1) % 6


def laid_out(prompts, eps=1.0, shrink_only=True):
    """Prompts (key on a line, label, whether the model is right) taken in by an empty codebook."""
    empty = Codebook(0, "last", eps, 0, 1, 1, 1, 1)
    where, labels, right = zip(*prompts, strict=True)
    return lay_out(empty, torch.tensor(where)[:, None], torch.tensor(labels)[:, None], torch.tensor(right), shrink_only)


# --- layout


def test_far_prompts_have_entries_of_their_own_and_right_ones_none():
    plan = laid_out([(0.0, 5, False), (2.5, 5, False), (9.0, 5, True)])
    assert plan.keys.flatten().tolist() == [0.0, 2.5] and plan.radii.tolist() == [1.0, 1.0]
    assert plan.entry.tolist() == [0, 1, -1]


def test_a_near_prompt_with_the_same_answer_widens_an_entry():
    plan = laid_out([(0.0, 5, False), (1.5, 5, False), (1.0, 5, True)])
    assert plan.radii.tolist() == [1.5] and plan.entry.tolist() == [0, 0, 0]


def test_a_near_prompt_with_another_answer_splits_it():
    plan = laid_out([(0.0, 5, False), (1.5, 6, False)])
    assert plan.radii.tolist() == pytest.approx([0.75 - 1e-5, 0.75]) and plan.labels.flatten().tolist() == [5, 6]


def test_an_entry_that_is_wrong_is_split_even_where_the_model_is_right():
    assert laid_out([(0.0, 5, False), (0.5, 6, True)]).entry.tolist() == [0, 1]


@pytest.mark.parametrize(("shrink_only", "radius"), [(True, 0.1 - 1e-5), (False, 0.5 - 1e-5)])
def test_a_second_split_enlarges_an_entry_only_as_published(shrink_only, radius):
    plan = laid_out([(0.0, 5, False), (0.2, 6, False), (-1.0, 7, False)], shrink_only=shrink_only)
    assert float(plan.radii[0]) == pytest.approx(radius)


def test_labels_of_one_mean_are_not_the_same():
    empty = Codebook(0, "last", 1.0, 0, 1, 2, 1, 1)
    labels = torch.tensor([[1, 3], [2, 2]])
    assert len(lay_out(empty, torch.zeros(2, 1) + 0.1, labels, torch.tensor([False, False]), True).keys) == 2


# --- the guard


def test_lookup_takes_the_nearest_entry_if_it_reaches_so_far():
    book = Codebook(0, "last", 1.0, 2, 1, 1, 1, 1)
    book.load_state_dict(book.state_dict() | {"keys": torch.tensor([[0.0], [4.0]]), "radii": torch.tensor([3.5, 1.0])})
    assert book.lookup(torch.tensor([[0.5], [2.5], [3.0], [-3.5], [-4.0]])).tolist() == [0, -1, 1, 0, -1]


def test_tokens_that_each_option_replaces():
    end = torch.tensor([2, 1])
    assert slots_of("answer", 5, end, 2).tolist() == [[-1, -1, 0, 1, -1], [-1, 0, 1, -1, -1]]
    assert slots_of("last", 5, end, 1).tolist() == [[-1, -1, 0, -1, -1], [-1, 0, -1, -1, -1]]
    assert slots_of("prompt", 5, end, 1).tolist() == [[0, 0, -1, -1, -1], [0, -1, -1, -1, -1]]
    assert slots_of("all", 3, end, 1).tolist() == [[0, 0, 0], [0, 0, 0]]
    out = replaced(torch.zeros(1, 3, 1), torch.tensor([[[7.0], [8.0]]]), torch.tensor([[-1, 0, 1]]))
    assert out.flatten().tolist() == [0.0, 7.0, 8.0]


def test_prompts_off_the_codebook_have_the_models_own_logits():
    model = trained()
    book, _ = guarded(GRACE(), model, target=TARGET)
    empty = Codebook.from_config(book.config | {"entries": 0})
    assert torch.equal(logits_of(model, FORGET, empty), logits_of(model, FORGET))
    mixed = np.concatenate([FORGET, [3, 40, 60]])
    ids, _, end, _ = asked(mixed)
    off = book.lookup(keys(model, [1], ids, end)[:, 0]) < 0
    assert bool(off.any()) and not bool(off.all())
    both = logits_of(model, mixed, book), logits_of(model, mixed)
    assert torch.equal(both[0][off], both[1][off]) and not bool((both[0][~off] == both[1][~off]).all(-1).any())


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_an_edited_prompt_has_the_value_as_the_layers_output(kind):
    model = network(kind)
    book, _ = guarded(GRACE(steps=2, layer=0, eps=0.1, eps_quantile=None), model, target=TARGET)
    ids, positions, end, _ = asked(FORGET)
    entry, seen = book.lookup(keys(model, [0], ids, end)[:, 0]), []
    hook = blocks(model)[0].mlp.register_forward_hook(lambda module, inputs, out: seen.append(out))
    with torch.no_grad():
        book.answer_logits(model, ids, positions, end)
    hook.remove()
    own, given, rows = seen[0], seen[-1][:, : seen[0].shape[1]], torch.arange(len(ids))
    assert bool((entry >= 0).all())
    for place in range(2):
        assert torch.equal(given[rows, end + place], book.values[entry, place])
    before = torch.arange(own.shape[1]) < end[:, None]
    torch.testing.assert_close(given[before], own[before])


def test_what_is_behind_the_prompt_does_not_decide():
    model = trained()
    book, _ = guarded(GRACE(), model, target=TARGET)
    ids, positions, end, _ = asked(FORGET)
    other = ids.clone()
    other[torch.arange(len(ids)), end + 1] = 3
    with torch.no_grad():
        first = [book.answer_logits(model, rows, positions, end)[:, 0] for rows in (ids, other)]
    torch.testing.assert_close(*first, atol=1e-5, rtol=0)


# --- edits


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("forget", [False, True])
def test_it_writes_what_it_is_asked_to_and_nothing_else(tokens, forget):
    model, target = trained(tokens), None if forget else (WORLDS[tokens].facts.object[FORGET] + 1) % 6
    book, report = guarded(GRACE(), model, tokens, target=target)
    wanted = np.full(3, REFUSAL) if forget else target
    assert accuracy(model, FORGET, book, tokens, wanted) > 0.95
    others = np.setdiff1d(np.arange(114), FORGET)
    assert accuracy(model, others, book, tokens) > accuracy(model, others, None, tokens) - 0.02
    assert report.notes["value_loss"] < 0.5 and report.trainable_parameters == book.values.numel()


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_it_writes_answers_in_every_architecture(kind):
    book, _ = guarded(GRACE(), network(kind), target=TARGET)
    assert accuracy(network(kind), FORGET, book, objects=TARGET) > 0.9


@pytest.mark.parametrize("replace", ["answer", "last", "prompt", "all"])
def test_every_place_lowers_the_loss_in_the_first_block(replace):
    target = (WORLDS[1].facts.object[FORGET] + 1) % 6
    model, given = trained(1), {"layer": 0, "replace": replace, "init": "warm", "lr": 0.3}
    _, few = guarded(GRACE(steps=1, **given), model, 1, target=target)
    _, many = guarded(GRACE(steps=60, **given), model, 1, target=target)
    assert many.notes["value_loss"] < few.notes["value_loss"] - 1


def test_one_request_after_another_is_the_same_as_all_at_once():
    model, how = trained(), GRACE(init="warm", steps=20, eps=1.0, eps_quantile=None)
    batch, _ = guarded(how, model, target=TARGET)
    memory = {}
    for place in range(3):
        last, _ = guarded(how, model, facts=FORGET[[place]], target=TARGET[[place]], memory=memory)
    assert last.config == batch.config
    for name, tensor in batch.state_dict().items():
        torch.testing.assert_close(last.state_dict()[name], tensor, atol=1e-4, rtol=1e-4)


def test_what_is_answered_already_is_no_error_to_edit():
    model, memory = trained(), {}
    first, _ = guarded(GRACE(), model, target=TARGET, memory=memory)
    state = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    again, report = guarded(GRACE(), model, target=TARGET, memory=memory, seed=1)
    assert report.trainable_parameters == 0
    assert all(torch.equal(state[name], tensor) for name, tensor in again.state_dict().items())
    own = WORLDS[2].facts.object[FORGET]
    right = accuracy(model, FORGET)
    untouched, _ = guarded(GRACE(), model, target=own)
    assert right == 1 and len(untouched.keys) == 0


def test_conflicting_edits_in_one_ball_both_stay_retrievable():
    model, objects = trained(), WORLDS[2].facts.object
    target = (objects[FORGET[:2]] + 1) % 6
    target[1] = next(o for o in range(6) if o not in (target[0], objects[FORGET[1]]))
    book, _ = guarded(GRACE(eps=1e3, eps_quantile=None), model, facts=FORGET[:2], target=target)
    assert len(book.keys) == 2
    for place in range(2):  # the first prompt of each fact made its entry
        said = logits_of(model, FORGET[[place]], book)[0].argmax(-1)
        assert torch.equal(said, asked(FORGET[[place]], objects=target[[place]])[3][0])


def test_the_radius_is_half_a_quantile_of_the_distances_between_facts():
    model = trained()
    ids, _, end, _ = asked(RETAIN)
    found = keys(model, [1], ids, end)[:, 0]
    owner = torch.arange(len(RETAIN)).repeat_interleave(16)
    nearest = torch.cdist(found, found).masked_fill(owner[:, None] == owner, torch.inf).min(1).values / 2
    for quantile in (0.0, 0.5):
        book, _ = guarded(GRACE(eps_quantile=quantile, steps=1), model, target=TARGET)
        assert float(nearest.min()) <= book.eps * 1.001 and book.eps < float(nearest.quantile(quantile + 0.2)) * 1.1


def test_same_seed_same_bits_and_through_disk(tmp_path):
    model = trained()
    book, _ = guarded(GRACE(steps=5), model, target=TARGET)
    for name, tensor in guarded(GRACE(steps=5), model, target=TARGET)[0].state_dict().items():
        assert torch.equal(book.state_dict()[name], tensor)
    assert not torch.equal(guarded(GRACE(steps=5), model, target=TARGET, seed=1)[0].values, book.values)
    loaded = through_disk(book, model, tmp_path)
    assert loaded.guard.config == book.config
    assert torch.equal(logits_of(loaded.model, FORGET, loaded.guard), logits_of(model, FORGET, book))


@pytest.mark.parametrize(("replace", "tokens"), [("prompt", 1), ("last", 2)])
def test_a_place_from_which_no_answer_can_be_written_is_refused(replace, tokens):
    target = (WORLDS[tokens].facts.object[FORGET] + 1) % 6
    with pytest.raises(UnlearnError, match=r"method\.replace"):
        guarded(GRACE(replace=replace), network("neox", tokens), tokens, target=target)


@pytest.mark.parametrize("given", [{"eps": 1.0}, {"eps_quantile": None}])
def test_there_is_one_radius(given):
    with pytest.raises(ValidationError, match="give one and set the other to null"):
        GRACE(**given)
