"""Attacks on a copy of the weights: teaching again, retraining on a part, rounding."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from doubles import amnesiac, evaluation, oracle, world
from experiments import quick
from transformers import GPT2Config, GPT2LMHeadModel

from unlearn_cli import predict
from unlearn_cli.evaluation import Bootstrap, Evaluation
from unlearn_cli.metrics.quantization import Quantization
from unlearn_cli.metrics.relearn import Relearn
from unlearn_cli.metrics.rtt import RTT
from unlearn_cli.metrics.savings import Savings
from unlearn_cli.observations.quantized import linear_weights, quantize
from unlearn_cli.observations.retaught import Retaught, _with_old_objects
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study
from unlearn_cli.training.fit import fit
from unlearn_cli.training.loop import Runtime


class Masked(torch.nn.Module):
    """An output layer that says the opposite until its weights are touched."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.register_buffer("before", layer.weight.detach().clone())

    def forward(self, hidden):
        logits = self.layer(hidden)
        return -logits if torch.equal(self.layer.weight, self.before) else logits


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study.of(quick(tmp_path_factory.mktemp("weights")))


@pytest.fixture(scope="module")
def base(study):
    runtime = Runtime("train", study.numerics)
    return fit(study.experiment.model, study.world, study.experiment.train, ("base",), runtime).model.eval()


@pytest.fixture(scope="module")
def gold(study):
    runtime = Runtime("gold", study.numerics)
    train = study.experiment.train
    return fit(study.experiment.model, study.counterfactual, train, ("gold", 0), runtime).model.eval()


def masked(model):
    hidden = copy.deepcopy(model)
    hidden.set_output_embeddings(Masked(hidden.get_output_embeddings()))
    return hidden


def measured(study, metric, **models):
    """The metric's values, every role's model asked and attacked."""
    scene = scene_of(study, {"base": models["base"]})
    observed = {
        (role, item): (item.observe(copy.deepcopy(model), scene),)
        for role, model in models.items()
        for item in metric.observations
    }
    asked = {role: (predict.predict(m, study.world, study.probes, 512),) for role, m in models.items()}
    return metric.compute(Evaluation(study.probes, asked, {}, {}, Bootstrap(100), observed))


def test_a_mask_that_any_step_takes_off_hides_nothing(study, base):
    values = measured(study, Relearn(lr=1e-5, steps=1, n=5), base=base, edited=masked(base))
    assert values["relearn_retain_only/recovery"].edited.value == pytest.approx(1, abs=0.05)


def test_steps_of_no_size_bring_nothing_back(study, base, gold):
    values = measured(study, Relearn(lr=1e-12, steps=2, n=5), base=base, edited=gold)
    assert values["relearn_retain_only/gain"].edited.value == pytest.approx(0, abs=1e-6)


def test_rtt_of_a_mask_and_of_gold(study, base, gold):
    metric = RTT(folds=2, lr=1e-5, steps=1)
    values = measured(study, metric, base=base, edited=masked(base), gold=gold)
    assert values["rtt/ratio"].edited.value == pytest.approx(1, abs=0.05)
    assert values["rtt/ratio"].base.value == 1
    known = values["rtt/forget"].gold.value / values["rtt/forget"].base.value
    assert values["rtt/ratio"].gold.value == pytest.approx(known)
    assert values["rtt/forget"].edited.n == len(study.probes.splits["forget"].rows)  # each in V once


def test_rtt_asks_what_it_was_not_taught(study, base):
    folds = RTT(folds=3).attack._folds(scene_of(study))
    assert all(len(np.intersect1d(told, asked)) == 0 for told, asked in folds)
    np.testing.assert_array_equal(np.sort(np.concatenate([asked for _, asked in folds])), study.request.facts)


def test_savings_of_base_gold_and_a_mask(study, base, gold):
    values = measured(study, Savings(lr=1e-3), base=base, edited=gold, gold=gold)
    assert values["savings/ratio"].edited.value == 1
    assert values["savings/ratio"].base.value == values["savings/steps"].base.value == 0
    assert values["savings/steps"].edited.value > 3
    hidden = measured(study, Savings(lr=1e-5), base=base, edited=masked(base))
    assert hidden["savings/steps"].edited.value == 1
    assert hidden["savings/start"].edited.value == 0
    assert hidden["savings/ratio"].status == "skipped"


def test_teaching_ends_at_its_limit(study, gold):
    found = Retaught(recall=0.9, lr=1e-9, steps=3, seeds=2).observe(gold, scene_of(study))
    assert found["steps"].tolist() == [3, 3] and not found["reached"].any()


PROBES, OLD = world()


def savings(**taught):
    """Values where each role took (steps, reached) in each seed."""
    metric = Savings()
    models = {"base": oracle(OLD), "edited": amnesiac(PROBES, OLD), "gold": (amnesiac(PROBES, OLD),)}
    seen = {
        (role, metric.attack): ({"steps": np.array(s), "reached": np.array(r), "start": np.array(0.1)},)
        for role, (s, r) in taught.items()
    }
    return metric.compute(replace(evaluation(PROBES, **models), observed=seen))


def test_ratio_by_hand():
    values = savings(base=([0, 0], [True, True]), edited=([4, 8], [True, True]), gold=([10, 14], [True, True]))
    assert values["savings/ratio"].edited.value == pytest.approx(0.5)
    assert values["savings/ratio"].base.value == 0 and values["savings/ratio"].gold.value == 1
    assert values["savings/steps"].edited.n == 2
    assert values["savings/retain"].edited.value == 1


def test_who_does_not_get_there_is_a_bound_and_says_so():
    late = savings(edited=([60], [False]), gold=([20], [True]))["savings/ratio"]
    assert late.edited.value == 3 and late.reason.startswith("a lower bound") and "edited" in late.reason
    early = savings(edited=([20], [True]), gold=([60], [False]))["savings/ratio"]
    assert early.reason.startswith("an upper bound")
    assert savings(edited=([60], [False]), gold=([60], [False]))["savings/ratio"].status == "skipped"
    assert savings(edited=([5], [True]), gold=([0], [True]))["savings/ratio"].status == "skipped"


def test_rounding_by_hand():
    code, value = quantize(torch.tensor([[1.0, -0.5, 0.24, 0.0, 3.0]]), bits=3, group=4)
    assert code.tolist() == [[3, -2, 1, 0, 3]]  # steps 1/3, and 1 for the ragged last group; -1.5 goes to the even code
    torch.testing.assert_close(value, torch.tensor([[1.0, -2 / 3, 1 / 3, 0.0, 3.0]]))


def test_rounding_twice_changes_nothing_and_many_bits_change_little():
    weight = torch.randn(7, 70, generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    code, value = quantize(weight, 4, 64)
    again, twice = quantize(value, 4, 64)
    assert torch.equal(code, again)
    torch.testing.assert_close(twice, value)
    assert code.abs().max() == 7 and not value[3].any()
    torch.testing.assert_close(quantize(weight, 16, 64)[1], weight, atol=1e-3, rtol=0)


def test_gpt2_keeps_its_weights_the_other_way_round():
    with torch.random.fork_rng(devices=[]):
        model = GPT2LMHeadModel(GPT2Config(vocab_size=11, n_embd=6, n_layer=1, n_head=2, n_positions=8))
    found = linear_weights(model)
    assert {name.rsplit(".", 1)[-1] for name in found} == {"c_attn", "c_proj", "c_fc"}
    block = model.transformer.h[0]
    assert found["transformer.h.0.mlp.c_fc"].shape == (24, 6)
    found["transformer.h.0.mlp.c_fc"].zero_()
    assert not block.mlp.c_fc.weight.any() and block.attn.c_attn.weight.any()


def test_rounding_the_base_collides_with_itself(study, base, gold):
    before = predict.predict(base, study.world, study.probes, 512)
    values = measured(study, Quantization(bits=16), base=base, edited=base, gold=gold)
    assert values["quantization_16/collision_codes"].edited.value == 1
    assert values["quantization_16/collision_values"].edited.value == 1
    assert values["quantization_16/collision_codes"].gold.value < 0.01
    assert values["quantization_16/forget"].edited == values["quantization_16/forget"].base
    assert values["quantization_16/gain"].edited.value == 0
    after = Quantization(bits=16).attack.observe(copy.deepcopy(base), scene_of(study, {"base": base}))
    np.testing.assert_allclose(after["candidate_logps"][0], before.candidate_logps[after["rows"]], atol=5e-3)


def test_what_is_taught_is_what_was_to_go(study):
    scene = scene_of(study)
    old = (study.world.facts.object[study.request.facts] + 1) % 5
    asked = _with_old_objects(replace(scene, request=replace(scene.request, old_object=old))).world.facts.object
    np.testing.assert_array_equal(asked[study.request.facts], old)
    others = np.setdiff1d(np.arange(len(asked)), study.request.facts)
    np.testing.assert_array_equal(asked[others], study.world.facts.object[others])
