"""SSD, SLUG, influence, pruning, columns: values by hand, limits, and what they do to a model that knows its facts."""

import copy

import numpy as np
import pytest
import torch

from unlearn_cli.machine import Numerics
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.columns import mlp_outputs
from unlearn_cli.methods.curvature import GaussNewton, conjugate_gradient
from unlearn_cli.methods.finetune import Finetune
from unlearn_cli.methods.ft import FT
from unlearn_cli.methods.graddiff import GradDiff
from unlearn_cli.methods.gradients import answer_probability, mean_gradient
from unlearn_cli.methods.influence import Influence
from unlearn_cli.methods.loss import Adapter
from unlearn_cli.methods.needle import Needle
from unlearn_cli.methods.prune import Prune, largest
from unlearn_cli.methods.slug import SLUG, chance
from unlearn_cli.methods.slug_search import pareto, smallest_step
from unlearn_cli.methods.ssd import SSD
from unlearn_cli.methods.weight_edit import stated
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.streams import generator
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.tabular import Tabular

WORLD = Tabular(subjects=40, relations=2, objects=6, holdout_subjects=2, object_tokens=2).build(0)
FORGET, RETAIN = WORLD.only(np.arange(0, 16, 2)), WORLD.only(np.arange(20, 60))


def context():
    return EditContext(Runtime("edit", Numerics("cpu", 1, 1, "fp32")), 0)


@pytest.fixture(scope="module")
def base():
    """A model that knows the forget and the retain facts."""
    model = GPTNeoX(hidden_size=32, heads=2, mlp_size=64).build(WORLD.vocabulary.size, WORLD.max_length, 0)
    every = WORLD.only(np.concatenate([np.arange(0, 16, 2), np.arange(20, 60)]))
    learn = FT(steps=250, lr=3e-3, scope="all", stop_loss=0.05, retain_weight=0.0)
    learn.edit(model, EditData(every, every.facts.object, None), context())
    assert min(known(model, FORGET), known(model, RETAIN)) > 0.8
    model.zero_grad()
    return model.eval()


def known(model, world):
    return answer_probability(model, stated(world, generator(1, "test")))


def edit(method, base):
    model = copy.deepcopy(base)
    needs = method.needs
    data = EditData(FORGET if "forget" in needs else None, None, RETAIN if "retain" in needs else None)
    return model, method.edit(model, data, context())


def deltas(base, model):
    after = dict(model.named_parameters())
    return {name: (after[name] - p).detach() for name, p in base.named_parameters() if not torch.equal(after[name], p)}


@pytest.mark.parametrize(
    "method",
    [
        SSD(alpha=3.0),
        SSD(alpha=1.2, fisher="per_batch", scope="blocks"),
        SSD(alpha=1.2, importance="logit_norm", scope="blocks"),
        SLUG(),
        Influence(scale=1.0, iterations=5),
        Influence(curvature="fisher", scale=1.0),
        Prune(sparsity=0.3, lr=1e-3, steps=30),
        Needle(columns=16),
        Needle(columns=16, op="mean", locate="projection"),
    ],
    ids=lambda method: type(method).__name__,
)
def test_the_forget_set_becomes_less_probable_than_the_rest(method, base):
    model, report = edit(method, base)
    drop, damage = known(base, FORGET) - known(model, FORGET), known(base, RETAIN) - known(model, RETAIN)
    assert drop > 0.1 and drop > damage
    assert report.steps >= 1 and report.forward_tokens > 0 and report.trainable_parameters > 0
    again = edit(method, base)[0].state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "method",
    [SSD(alpha=1e9), Influence(scale=0.0, iterations=1), Needle(op="noise", noise=0.0)],
    ids=lambda method: type(method).__name__,
)
def test_a_neutral_setting_changes_nothing(method, base):
    assert deltas(base, edit(method, base)[0]) == {}


def test_ssd_by_hand():
    forget, every = torch.tensor([0.0, 1.0, 4.0, 8.0, 5.0]), torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])
    assert SSD(alpha=2.0).factors(forget, every).tolist() == [1.0, 1.0, 0.25, 0.125, 0.0]
    assert SSD(alpha=2.0, dampening=6.0).factors(forget, every).tolist() == [1.0, 1.0, 1.0, 0.75, 0.0]
    assert SSD(alpha=2.0, exponent=2.0).factors(forget, every).tolist() == [1.0, 1.0, 1 / 16, 1 / 64, 0.0]
    assert SSD(alpha=1.0).factors(every, every).tolist() == [1.0] * 5
    assert SSD(alpha=2.0, dampening=0.0).factors(forget, every).tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_ssd_only_shrinks_and_selects_fewer_as_alpha_grows(base):
    selected = []
    for alpha in (1.0, 2.0, 4.0):
        model, report = edit(SSD(alpha=alpha), base)
        selected.append(report.notes["weights_selected"])
        after = model.state_dict()
        assert all(bool((after[name].abs() <= p.abs()).all()) for name, p in base.named_parameters())
    assert selected == sorted(selected, reverse=True) and selected[0] > selected[2]


def test_slug_moves_one_matrix_along_its_gradient(base):
    model, report = edit(SLUG(scope="mlp", target=None), base)
    ((name, delta),) = deltas(base, model).items()
    assert name == report.notes["matrix"] and ".mlp." in name
    gradient = mean_gradient(base, stated(FORGET, generator(0, "edit", "forget")))[name]
    assert float(torch.cosine_similarity(delta.flatten(), gradient.flatten(), dim=0)) == pytest.approx(1, abs=1e-4)
    before = base.get_parameter(name).detach()
    assert float(delta.norm() / before.norm()) == pytest.approx(report.notes["step"], rel=1e-4)
    assert chance(FORGET) == pytest.approx(1 / 6)
    assert report.notes["probability"] <= chance(FORGET)


def test_the_front_has_what_nothing_beats_in_both():
    assert pareto([(1.0, -0.1), (2.0, -0.5), (0.5, -0.5), (3.0, -0.9), (2.0, -0.6)]) == [0, 1, 3]


def test_the_search_doubles_then_bisects():
    asked = []

    def reading(size):
        asked.append(size)
        return 1 - size

    size, left = smallest_step(reading, 0.45, 0.1, 7)
    assert asked == pytest.approx([0.1, 0.2, 0.4, 0.8, 0.6, 0.5, 0.55])
    assert (size, left) == pytest.approx((0.6, 0.4)) or (size, left) == pytest.approx((0.55, 0.45))


def test_a_search_that_fails_gives_the_lowest_reading():
    assert smallest_step(lambda size: 1.0 + (size - 0.4) ** 2, 0.5, 0.1, 4) == (0.4, 1.0)


def nll(model, sentences):
    ids = torch.from_numpy(sentences.input_ids)
    logps = model(input_ids=ids).logits.log_softmax(-1)
    rows = torch.arange(len(ids))[:, None]
    return -logps[rows, torch.from_numpy(sentences.positions - 1), torch.from_numpy(sentences.answers)].mean()


def test_gradients_are_those_of_a_plain_forward_and_leave_the_model_alone(base):
    sentences = stated(RETAIN, generator(0, "test"))
    found = mean_gradient(base, sentences)
    assert all(parameter.grad is None for parameter in base.parameters())
    model = copy.deepcopy(base).double()
    nll(model, sentences).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name].double(), parameter.grad, atol=1e-5, rtol=1e-3)


def test_the_curvature_of_the_output_layer_is_its_hessian(base):
    model, sentences = copy.deepcopy(base).double(), stated(FORGET, generator(0, "test"))
    name = next(key for key, p in model.named_parameters() if p is model.get_output_embeddings().weight)
    vector = {name: torch.randn_like(model.get_parameter(name))}
    found, eps = GaussNewton(model, sentences, [name]).product(vector)[name], 1e-6
    ahead = copy.deepcopy(model)
    with torch.no_grad():
        ahead.get_parameter(name).add_(vector[name], alpha=eps)
    slope = (mean_gradient(ahead, sentences)[name] - mean_gradient(model, sentences)[name]) / eps  # logits are linear
    torch.testing.assert_close(found, slope, atol=1e-5, rtol=1e-3)
    assert float(found.norm()) > 1e-3


def test_the_curvature_of_all_weights_is_symmetric_and_positive(base):
    model, sentences = copy.deepcopy(base).double(), stated(FORGET, generator(0, "test"))
    names = [name for name, _ in model.named_parameters()]
    matrix = GaussNewton(model, sentences, names)
    one, other = ({name: torch.randn_like(model.get_parameter(name)) for name in names} for _ in range(2))
    left, right = matrix.product(one), matrix.product(other)
    assert dot(left, other) == pytest.approx(dot(right, one), rel=1e-8)
    assert dot(left, one) > 0 and not any(value.requires_grad for value in left.values())


def dot(one, other):
    return sum(float((one[name] * other[name]).sum().detach()) for name in one)


def test_conjugate_gradients_remove_rows_of_ridge_regression_exactly():
    stream, ridge = torch.Generator().manual_seed(0), 0.3 * torch.eye(5, dtype=torch.float64)
    x, y = (torch.randn(30, size, generator=stream, dtype=torch.float64) for size in (5, 1))
    gone, keep = slice(0, 6), slice(6, 30)

    def fit(rows):
        return torch.linalg.solve(x[rows].T @ x[rows] + ridge, x[rows].T @ y[rows])

    start = fit(slice(0, 30))
    curvature = (x[keep].T @ x[keep] + ridge) / 24
    right = x[gone].T @ (x[gone] @ start - y[gone]) / 24  # gradient of the removed losses; the ridge is not among them
    step, products = conjugate_gradient(lambda v: {"w": curvature @ v["w"]}, {"w": right}, 0.0, 50, tolerance=1e-14)
    torch.testing.assert_close(start + step["w"], fit(keep), atol=1e-8, rtol=0)
    assert products <= 8


def test_conjugate_gradients_damp():
    step, _ = conjugate_gradient(lambda v: {"w": 2 * v["w"]}, {"w": torch.tensor([1.0, -3.0])}, 0.5, 5)
    assert step["w"].tolist() == pytest.approx([0.4, -1.2])


def test_largest_by_hand():
    matrix = torch.tensor([[0.1, -2.0], [0.0, 0.5]])
    assert largest(matrix, 0.5).tolist() == [[False, True], [False, True]]
    assert largest(matrix, 0.0).all() and not largest(matrix, 1.0).any()


def test_pruned_weights_stay_zero(base):
    model, _ = edit(Prune(sparsity=0.5, steps=5, lr=1e-2, weight_decay=0.1), base)
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and (".mlp." in name or ".attention." in name):
            assert float((weight == 0).float().mean()) == pytest.approx(0.5, abs=1e-3)
            dropped = ~largest(base.get_parameter(name).detach(), 0.5)
            assert not bool(weight[dropped].any())
        else:
            assert bool((weight != 0).any())


def test_without_sparsity_and_l1_it_is_graddiff_or_finetuning(base):
    for reduced, plain in (
        (Prune(steps=3), GradDiff(steps=3)),
        (Prune(steps=3, forget_weight=0.0), Finetune(steps=3, forget_weight=0.0)),
    ):
        assert not deltas(edit(plain, base)[0], edit(reduced, base)[0])


def in_blocks(model):
    return [p.detach() for n, p in model.named_parameters() if p.ndim == 2 and (".mlp." in n or ".attention." in n)]


def test_l1_falls_to_zero_and_shrinks_weights(base):
    method = Prune(steps=10, steps_without_l1=5, l1=2.0)
    assert [method.l1_at(step) for step in (0, 1, 4, 5, 9)] == pytest.approx([2.0, 1.6, 0.4, 0.0, 0.0])
    edited = [edit(Prune(steps=30, lr=1e-3, forget_weight=0.0, l1=l1), base)[0] for l1 in (0.0, 100.0)]
    without, under = (sum(float(weight.abs().sum()) for weight in in_blocks(model)) for model in edited)
    assert under < 0.9 * without


def test_the_penalty_is_the_mean_magnitude(base):
    mean = float(torch.cat([weight.abs().flatten() for weight in in_blocks(base)]).mean())
    penalty = Prune(steps=4, l1=2.0).penalty(base, 0)
    assert [float(penalty(step).detach()) for step in range(3)] == pytest.approx(
        [2.0 * mean, 1.5 * mean, mean], rel=1e-5
    )


def test_sparse_contradictions_are_refused():
    with pytest.raises(ValueError, match=r"adapter.rank = 2: merged adapters"):
        Prune(sparsity=0.5, adapter=Adapter(rank=2))
    with pytest.raises(ValueError, match="steps_without_l1 = 60"):
        Prune(l1=1.0, steps_without_l1=60)


def columns_changed(base, model):
    changed = deltas(base, model)
    assert all(name.endswith("mlp.dense_4h_to_h.weight") for name in changed)
    return sum(int((delta != 0).any(0).sum()) for delta in changed.values())


@pytest.mark.parametrize("locate", ["activation", "projection", "random"])
def test_needle_changes_whole_columns_and_no_others(locate, base):
    model, report = edit(Needle(columns=2, locate=locate), base)
    assert columns_changed(base, model) == report.notes["columns_changed"] <= 2 * len(FORGET.facts)
    assert report.notes["columns"] == 2 * 64


def test_needle_in_one_layer(base):
    changed = deltas(base, edit(Needle(columns=2, scope="layers:1", op="noise"), base)[0])
    assert set(changed) == {"gpt_neox.layers.1.mlp.dense_4h_to_h.weight"}


def test_the_mean_is_that_of_the_other_columns():
    columns = torch.tensor([[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]])
    Needle(op="mean").damage(columns, torch.tensor([2]), torch.Generator())
    assert columns.tolist() == [[1.0, 2.0], [3.0, 6.0], [2.0, 4.0]]


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    size = WORLD.vocabulary.size
    return GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=16, n_layer=2, n_head=2, n_positions=32)).eval()


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=WORLD.vocabulary.size, tie_word_embeddings=True, **sizes)).eval()


def test_conv1d_columns_are_rows_of_its_weight():
    model = gpt2()
    (_, last) = mlp_outputs(model, {name for name, _ in model.named_parameters()})
    assert last.columns.shape == (64, 16)
    changed = deltas(model, edit(Needle(columns=1), model)[0])
    assert changed and all(name.endswith("mlp.c_proj.weight") for name in changed)
    assert all(bool((delta[(delta != 0).any(1)] != 0).all()) for delta in changed.values())


METHODS = [SSD(alpha=1.0), SLUG(target=0.001), Influence(iterations=2), Needle(columns=1), Prune(sparsity=0.5, steps=1)]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("build", [gpt2, llama])
def test_other_architectures_and_tied_embeddings(build, method):
    model = build()
    edited, _ = edit(method, model)
    assert deltas(model, edited)
    assert torch.equal(edited.get_input_embeddings().weight, edited.get_output_embeddings().weight)
    if isinstance(method, SLUG | Influence | Needle):  # these stay inside the blocks
        assert not any("embed" in name or "wte" in name for name in deltas(model, edited))
