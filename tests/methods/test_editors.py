"""Editors in closed form: their formulas on random data, what they do to small models, and what they leave alone."""

import copy
from functools import cache

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from unlearn_cli.errors import UnlearnError
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.alphaedit import AlphaEdit
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.editing.editor import Value
from unlearn_cli.methods.editing.network import blocks, logits_above, matrix, output_of
from unlearn_cli.methods.editing.prompts import prompts, read, stated
from unlearn_cli.methods.editing.solve import constrained, inconsistent, low_energy, projected, weighted
from unlearn_cli.methods.editing.value import Asked, find
from unlearn_cli.methods.emmet import EMMET
from unlearn_cli.methods.ft import FT
from unlearn_cli.methods.ft_l import FTL
from unlearn_cli.methods.loss import Adapter
from unlearn_cli.methods.memit import MEMIT
from unlearn_cli.methods.rome import ROME
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.training.fit import read_answers
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.tabular import Nested, Tabular

CPU, DEVICE = Numerics("cpu", 1, 1, "fp32"), torch.device("cpu")
WORLDS = {t: Tabular(subjects=40, relations=3, objects=6, holdout_subjects=2, object_tokens=t).build(0) for t in (1, 2)}
WORLD = WORLDS[2]
ARCHITECTURES = ["neox", "neox_parallel_tied", "llama", "gpt2"]


def network(kind, world=WORLD):
    size, torch_seed = world.vocabulary.size, torch.random.fork_rng(devices=[])
    shape = {"vocab_size": size, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch_seed:
        torch.manual_seed(0)
        if kind == "llama":
            shape |= {"intermediate_size": 64, "initializer_range": 0.2}
            return LlamaForCausalLM(LlamaConfig(**shape)).eval()
        if kind == "gpt2":
            config = GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, initializer_range=0.2)
            return GPT2LMHeadModel(config).eval()
    tied = kind == "neox_parallel_tied"
    model = GPTNeoX(hidden_size=32, heads=2, mlp_size=64, parallel_residual=tied, tied=tied)
    return model.build(size, world.max_length, 0).eval()


@cache
def trained(tokens):
    """A model that knows the facts, objects of so many tokens; shared, so copied before it is changed."""
    world, model = WORLDS[tokens], network("neox", WORLDS[tokens])
    facts = world.only(np.arange(114))
    learn = FT(steps=200, lr=5e-3, scope="all", stop_loss=0.05, retain_loss="none")
    learn.edit(model, EditData(facts, facts.facts.object, None), EditContext(Runtime("edit", CPU), 0))
    return model


def edit(method, model, world=WORLD, facts=(0, 7, 20), forget=False, seed=0):
    """The edited model, the report, and the targets."""
    facts = np.array(facts)
    target = (world.facts.object[facts] + 1) % 6
    data = EditData(world.only(facts), None if forget else target, world.only(np.arange(30, 110)), world.language)
    edited, runtime = copy.deepcopy(model), Runtime("edit", CPU)
    report = method.edit(edited, data, EditContext(runtime, seed))
    return edited, report, np.full(len(facts), REFUSAL) if forget else target


def success(model, targets, world=WORLD, facts=(0, 7, 20)):
    """Share of facts and trained templates that are answered with the targets."""
    asked = world.language.asked
    each, templates = np.repeat(facts, len(asked)), np.tile(asked, len(facts))
    logits, labels = read_answers(model, world.sentences(each, templates, np.repeat(targets, len(asked))), DEVICE)
    return float((logits.argmax(-1) == labels).all(-1).float().mean())


def nll(model, targets):
    """Of the targets of fact 0 over all trained templates."""
    asked = WORLD.language.asked
    rows = WORLD.sentences(np.zeros(len(asked), dtype=int), asked, np.repeat(targets, len(asked)))
    logits, labels = read_answers(model, rows, DEVICE)
    return float(-logits.log_softmax(-1).gather(-1, labels[..., None]).mean())


def changed(before, after):
    new = after.state_dict()
    return {name for name, tensor in before.state_dict().items() if not torch.equal(tensor, new[name])}


def problem(m=3, d=4, hidden=8, seed=0):
    """C [hidden, hidden], K [hidden, m], R [d, m] in float64."""
    stream = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=stream, dtype=torch.float64)

    old = draw(hidden, 50)
    return old @ old.T / 50, draw(hidden, m), draw(d, m)


# --- closed forms


def test_constrained_is_exact_of_rank_m_and_the_least_change_under_c():
    C, K, R = problem()
    delta = constrained(C, K, R)
    torch.testing.assert_close(delta @ K, R, atol=1e-10, rtol=0)
    assert torch.linalg.matrix_rank(delta) == 3
    aside = torch.randn(4, 8, dtype=torch.float64)
    aside -= aside @ K @ torch.linalg.pinv(K)  # adding it keeps delta K = R
    for other in (delta + aside, delta - 0.1 * aside):
        assert (other @ C @ other.T).trace() > (delta @ C @ delta.T).trace()
    torch.testing.assert_close(constrained(7.0 * C, K, R), delta)


def test_rank_one_by_hand():
    _, K, R = problem(m=1)
    plain = constrained(torch.eye(8, dtype=torch.float64), K, R)
    torch.testing.assert_close(plain, R @ K.T / (K.T @ K))
    C = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
    k, r = torch.tensor([[1.0], [2.0]], dtype=torch.float64), torch.tensor([[3.0]], dtype=torch.float64)
    assert constrained(C, k, r).tolist() == [[1.5, 0.75]]  # C^-1 k = (1, .5), k' C^-1 k = 2
    assert weighted(C, k, r, 4.0).tolist() == [[0.5, 0.25]]  # r (C^-1 k)' / (lam + k' C^-1 k)


def test_dependent_keys_take_the_pseudo_inverse():
    C, K, R = problem(m=1)
    twice = constrained(C, torch.cat([K, K], 1), torch.cat([R, R], 1))
    torch.testing.assert_close(twice, constrained(C, K, R))


def test_weighted_is_the_normal_equation_and_has_both_limits():
    C, K, R = problem()
    torch.testing.assert_close(weighted(C, K, R, 5.0), R @ K.T @ torch.linalg.inv(5.0 * C + K @ K.T))
    torch.testing.assert_close(weighted(C, K, R, 1e-9), constrained(C, K, R), atol=1e-7, rtol=0)
    assert float(weighted(C, K, R, 1e12).abs().max()) < 1e-10
    order = [2, 0, 1]
    torch.testing.assert_close(weighted(C, K[:, order], R[:, order], 5.0), weighted(C, K, R, 5.0))


def test_legacy_keys_agree_where_the_keys_do():
    C, K, R = problem()
    torch.testing.assert_close(inconsistent(C, K, K, R), constrained(C, K, R))
    first = K + 0.1
    delta = inconsistent(C, K, first, R)
    torch.testing.assert_close(delta @ first, R)
    assert not torch.allclose(delta @ K, R)


def test_projected_leaves_the_range_of_old_keys_alone():
    _, K, R = problem(hidden=8)
    old = torch.randn(8, 3, dtype=torch.float64)
    P = low_energy(old @ old.T, None, 1e-9)
    assert round(float(P.trace())) == 5
    delta = projected(P, K, R, 0.5)
    torch.testing.assert_close(delta @ P, delta)
    torch.testing.assert_close(delta @ old, torch.zeros(4, 3, dtype=torch.float64), atol=1e-10, rtol=0)
    identity = torch.eye(8, dtype=torch.float64)
    torch.testing.assert_close(projected(identity, K, R, 0.5), R @ K.T @ torch.linalg.inv(K @ K.T + 0.5 * identity))
    assert not projected(torch.zeros_like(identity), K, R, 0.5).any()
    assert round(float(low_energy(old @ old.T, 0.25, None).trace())) == 2


def test_one_after_another_with_earlier_keys_spared_ends_where_both_at_once_do():
    C, K, R = problem(m=5)
    P = low_energy(C, 0.75, None)
    first = projected(P, K[:, :2], R[:, :2], 0.5)
    missing = R[:, 2:] - first @ K[:, 2:]
    second = projected(P, K[:, 2:], missing, 0.5, K[:, :2] @ K[:, :2].T)
    torch.testing.assert_close(first + second, projected(P, K, R, 0.5))
    assert not torch.allclose(first + projected(P, K[:, 2:], missing, 0.5), projected(P, K, R, 0.5))


# --- where a model is read and written


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("layer", [0, 1])
def test_the_blocks_above_make_of_a_hidden_state_what_the_model_does(kind, layer):
    model, facts = network(kind), np.arange(3)
    before = blocks(model)
    rows = stated(WORLD, facts, WORLD.language.asked[:4], WORLD.facts.object[facts], "answer", DEVICE)
    with torch.no_grad():
        partial = logits_above(model, layer, rows.ids, read(model, rows, [layer]).hidden, rows.read)
        whole = model(input_ids=rows.ids).logits
    expected = whole.gather(1, rows.read[..., None].expand(-1, -1, whole.shape[-1]))
    torch.testing.assert_close(partial, expected, atol=1e-4, rtol=1e-4)
    assert blocks(model) == before


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_adding_to_the_matrix_moves_the_values_at_the_keys(kind):
    model, facts = network(kind), np.arange(2)
    module = output_of(blocks(model)[0])
    assert matrix(module).shape == (32, {"neox": 64, "neox_parallel_tied": 64, "llama": 64, "gpt2": 128}[kind])
    rows = stated(WORLD, facts, WORLD.language.asked[:2], WORLD.facts.object[facts], "subject", DEVICE)
    keys = read(model, rows, [0]).keys[0]
    values, delta = module(keys), torch.randn(matrix(module).shape)
    matrix(module).add_(delta)
    torch.testing.assert_close(module(keys) - values, keys @ delta.T, atol=1e-4, rtol=1e-4)


def test_the_subject_ends_where_its_last_token_is():
    world = Tabular(
        subjects=12, relations=2, objects=6, holdout_subjects=1, object_tokens=3, nested=Nested(objects=3)
    ).build(0)
    facts = np.arange(len(world.facts))
    people = world.facts.subject < world.relations.subjects
    assert people.any() and not people.all()  # some subjects are objects, whose names have another length
    for template in [*world.language.asked, world.language.question]:
        written = world.sentences(facts, np.full(len(facts), template))
        last = written.input_ids[facts, written.subject_end]
        names = np.where(people, world.facts.subject, world.facts.subject - world.relations.subjects)
        for kind, chosen in (("subject", people), ("object", ~people)):
            expected = world.vocabulary[kind].encode(names[chosen])[:, -1]
            assert (last[chosen] == expected).all()
    rows = prompts(written, "subject", DEVICE)
    assert rows.sites.shape == (len(facts), 1) and rows.read.shape == (len(facts), 3)


# --- the value


def asked(model, site="answer", layer=0, facts=(0, 7)):
    rows = stated(WORLD, np.array(facts), WORLD.language.asked[:4], np.array([3, 4]), site, DEVICE)
    reading = read(model, rows, [layer])
    return Asked(rows, torch.arange(2).repeat_interleave(4), reading.hidden), torch.ones(2, rows.sites.shape[1], 32)


def test_the_value_lowers_the_loss_within_its_ball():
    model = network("neox").requires_grad_(False)
    facts, v0 = asked(model)
    before = find(model, 0, facts, None, v0, Value(steps=1, lr=1e-9))
    after = find(model, 0, facts, None, v0, Value(steps=30, clamp=0.5, stop_loss=0.0))
    assert bool((after.loss < before.loss - 0.5).all())
    radius = 0.5 * v0.norm(dim=-1)
    assert float((after.delta.norm(dim=-1) / radius).max()) == pytest.approx(1, rel=1e-5)


def test_facts_do_not_see_each_other_and_stop_by_themselves():
    model = network("neox").requires_grad_(False)
    facts, v0 = asked(model)
    how = Value(steps=40, stop_loss=1.0)
    together = find(model, 0, facts, None, v0, how)
    assert bool((together.loss < 1).all())
    for place in range(2):
        rows = stated(
            WORLD, np.array([[0], [7]][place]), WORLD.language.asked[:4], np.array([3 + place]), "answer", DEVICE
        )
        mine = torch.zeros(4, dtype=torch.long)
        alone = find(model, 0, Asked(rows, mine, read(model, rows, [0]).hidden), None, v0[:1], how)
        torch.testing.assert_close(alone.delta[0], together.delta[place], atol=1e-4, rtol=1e-4)


# --- whole edits

EDITORS = [ROME(), MEMIT(lam=10.0), EMMET(), AlphaEdit(null_fraction=0.9, lam=1.0)]


@pytest.mark.parametrize("method", EDITORS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("tokens", [1, 2])
def test_editors_write_their_targets_spare_the_rest_and_touch_one_matrix(method, tokens):
    world, base, rest = WORLDS[tokens], trained(tokens), np.arange(30, 114)
    edited, report, targets = edit(method, base, world)
    kept = [success(model, world.facts.object[rest], world, rest) for model in (base, edited)]
    assert success(base, targets, world) < 0.1 and success(edited, targets, world) > 0.9
    assert kept[0] > 0.9 and kept[1] > kept[0] - 0.2
    assert changed(base, edited) == {"gpt_neox.layers.1.mlp.dense_4h_to_h.weight"}
    before, after = (matrix(output_of(blocks(model)[1])) for model in (base, edited))
    rank = int(torch.linalg.matrix_rank((after - before).double(), rtol=1e-5))
    assert rank == 3 * tokens
    assert report.forward_tokens > 0 and report.trainable_parameters == 32 * 64
    assert all(parameter.requires_grad for parameter in edited.parameters())


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("site", ["answer", "subject"])
def test_every_architecture_and_site(kind, site):
    base = network(kind)
    method = ROME(site=site, layer=0, value=Value(steps=100, lr=0.5, stop_loss=0.5))
    edited, _, targets = edit(method, base, facts=(0,))
    assert nll(edited, targets) < nll(base, targets) - 0.3
    (name,) = changed(base, edited)
    assert ".0." in name and "mlp" in name and name.endswith("weight")


def test_the_last_block_writes_nothing_at_the_subject():
    with pytest.raises(UnlearnError, match="never reaches the answer"):
        edit(ROME(site="subject"), network("neox"))
    with pytest.raises(UnlearnError, match="there is no block 2; this model has 2"):
        edit(ROME(layer=2), network("neox"))


def test_a_single_edit_of_emmet_is_romes():
    base = network("neox")
    one, other = edit(EMMET(), base, facts=(5,))[0], edit(ROME(), base, facts=(5,))[0]
    assert changed(one, other) == set() and changed(base, one)


def test_emmet_with_slack_is_memit_with_that_weight():
    base = network("neox")
    flat = Value(clamp=1e3, weight_decay=0.0)  # the two measure ball and decay by different values
    one = edit(EMMET(eps=3.0, value=flat), base)[0].state_dict()
    other = edit(MEMIT(lam=3.0, value=flat), base)[0].state_dict()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, atol=1e-5, rtol=1e-5)


def test_rome_reaches_its_values_exactly():
    base = network("neox")
    edited, _, targets = edit(ROME(value=Value(stop_loss=0.0, steps=5)), base, facts=(0,))
    rows = stated(WORLD, np.array([0]), WORLD.language.asked, targets, "answer", DEVICE)
    keys = read(base, rows, [1]).keys[1].double().mean(0)
    delta = (matrix(output_of(blocks(edited)[1])) - matrix(output_of(blocks(base)[1]))).double()
    found = find(
        base.requires_grad_(False),
        1,
        Asked(rows, torch.zeros(len(rows.ids), dtype=torch.long), read(base, rows, [1]).hidden),
        None,
        output_of(blocks(base)[1])(keys.float()[None]),
        Value(stop_loss=0.0, steps=5),
    )
    torch.testing.assert_close((delta @ keys.T).T.float(), found.delta[0], atol=1e-4, rtol=1e-3)


def test_legacy_keys_are_another_edit():
    base = network("neox")
    consistent, legacy = edit(ROME(), base)[0], edit(ROME(legacy_keys=True), base)[0]
    assert changed(consistent, legacy)
    same = edit(ROME(contexts=1), base)[0], edit(ROME(contexts=1, legacy_keys=True), base)[0]
    for mine, theirs in zip(*(model.parameters() for model in same), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_several_blocks_share_the_change():
    base = trained(2)
    edited, report, targets = edit(MEMIT(layers=[0, 1], lam=1.0), base)
    assert changed(base, edited) == {f"gpt_neox.layers.{n}.mlp.dense_4h_to_h.weight" for n in (0, 1)}
    assert success(edited, targets) > 0.9 and report.trainable_parameters == 2 * 32 * 64


def test_the_kl_term_keeps_the_subjects_other_relations():
    base, world = trained(1), WORLDS[1]
    fact = np.array([0])
    near = np.flatnonzero(world.facts.subject == world.facts.subject[0])[1:]
    template = world.language.asked[:1]

    def drift(kl):
        edited = edit(ROME(layer=0, value=Value(kl=kl, steps=40, stop_loss=0.0)), base, world, fact)[0]
        rows = world.sentences(near, np.repeat(template, len(near)))
        with torch.no_grad():
            before, after = (read_answers(model, rows, DEVICE)[0].log_softmax(-1) for model in (base, edited))
        return float((after.exp() * (after - before)).sum(-1).mean())

    assert drift(5.0) < 0.5 * drift(0.0)


@pytest.mark.parametrize("method", [*EDITORS, FTL(steps=60, lr=5e-3, radius=0.3)], ids=lambda m: type(m).__name__)
def test_forgetting_writes_the_refusal_and_says_so(method):
    base = trained(2)
    edited, _, targets = edit(method, base, forget=True)
    assert success(edited, targets) > success(base, targets) + 0.5
    assert "refusal" in method.note("forget") and method.note("remap") is None


@pytest.mark.parametrize("method", [ROME(), MEMIT()], ids=lambda m: type(m).__name__)
def test_same_seed_same_bits_and_the_moment_follows_the_seed(method):
    base = network("neox")
    small = type(method)(moment=type(method.moment)(sentences=100))
    assert changed(edit(small, base)[0], edit(small, base)[0]) == set()
    assert changed(edit(small, base)[0], edit(small, base, seed=1)[0])


def test_an_empty_null_space_or_pool_is_told():
    with pytest.raises(UnlearnError, match="no direction of the old keys has so little energy"):
        edit(AlphaEdit(null_fraction=None, null_threshold=1e-12), network("neox"))
    with pytest.raises(ValueError, match="set either it or null_threshold"):
        AlphaEdit(null_threshold=0.1)
    nothing = EditData(WORLD.only(np.array([0])), None, WORLD.only(np.array([], dtype=np.int64)), WORLD.language)
    with pytest.raises(UnlearnError, match=r"retain\.pool"):
        ROME().edit(network("neox"), nothing, EditContext(Runtime("edit", CPU), 0))
    assert edit(AlphaEdit(null_fraction=0.25), network("neox"))[1].notes["layer_1/null_rank"] == 16


def sequence(monkeypatch, method, base):
    """Two requests on one model: what AlphaEdit was given for each, and the change of the matrix by each."""
    model, memory, given, change = copy.deepcopy(base), {}, [], []
    solve = AlphaEdit.delta
    monkeypatch.setattr(AlphaEdit, "delta", lambda self, *known: given.append(known) or solve(self, *known))
    for number, fact in enumerate((0, 7)):
        before = matrix(output_of(blocks(model)[1])).clone()
        data = EditData(WORLD.only(np.array([fact])), np.array([2]), WORLD.only(np.arange(30, 110)), WORLD.language)
        method.edit(model, data, EditContext(Runtime("edit", CPU), number, memory=memory))
        change.append((matrix(output_of(blocks(model)[1])) - before).double())
    return given, change


def test_alphaedit_spares_the_keys_of_earlier_requests(monkeypatch):
    method = AlphaEdit(null_fraction=0.9, lam=1.0)
    ((C, one), (again, two)), (first, second) = sequence(monkeypatch, method, trained(1))
    assert again is C and one.earlier is None
    torch.testing.assert_close(two.earlier, one.keys @ one.keys.T)
    keys = torch.cat([one.keys, two.keys], 1)
    values = torch.cat([one.change, two.change + first @ two.keys], 1)  # as seen from before the first request
    ridge = method.lam * float(C.diagonal().mean())
    torch.testing.assert_close(
        first + second, projected(method.projector(C), keys, values, ridge), atol=1e-4, rtol=1e-3
    )


def test_alphaedit_without_a_cache_takes_every_request_for_the_first(monkeypatch):
    method = AlphaEdit(null_fraction=0.9, lam=1.0, cache=False)
    ((C, one), (other, two)), _ = sequence(monkeypatch, method, trained(1))
    assert one.earlier is None and two.earlier is None and other is not C


# --- FT-L


def ftl(**changes):
    return FTL(**({"scope": r"regex:\.1\.mlp\.dense_4h_to_h\.weight", "lr": 1e-2, "steps": 40} | changes))


@pytest.mark.parametrize("radius", [0.0, 0.02, 0.1])
def test_no_weight_leaves_the_ball(radius):
    base = trained(2)
    edited, _, targets = edit(ftl(radius=radius, retain_loss="none"), base)
    names = changed(base, edited)
    assert names == ({"gpt_neox.layers.1.mlp.dense_4h_to_h.weight"} if radius else set())
    for name in names:
        moved = (edited.state_dict()[name] - base.state_dict()[name]).abs().max()
        assert float(moved) == pytest.approx(radius, rel=1e-4)
    if radius == 0.1:
        assert success(edited, targets) > success(base, targets) + 0.3


def test_a_ball_is_around_the_weights_themselves():
    with pytest.raises(ValueError, match="around the weights themselves"):
        FTL(adapter=Adapter(rank=2))
