"""Membership inference: the harness against scikit-learn, attacks by hand, and what gold and noop must read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from doubles import from_probabilities
from experiments import quick
from sklearn.metrics import roc_auc_score, roc_curve
from token_doubles import SIDE, scored, sides, told

from unlearn_cli.evaluation import Bootstrap, Split
from unlearn_cli.metrics.mia_gradnorm import MiaGradnorm
from unlearn_cli.metrics.mia_loss import MiaLoss
from unlearn_cli.metrics.mia_min_k import MiaMinK
from unlearn_cli.metrics.mia_min_k_pp import MiaMinKPP
from unlearn_cli.metrics.mia_quantile import MiaQuantile, quantile
from unlearn_cli.metrics.mia_reference import MiaReference
from unlearn_cli.metrics.mia_zlib import MiaZlib
from unlearn_cli.metrics.privleak import Privleak
from unlearn_cli.metrics.privleak_family import PrivleakFamily
from unlearn_cli.metrics.roc import Sides, _curve, _Sorted, advantage, auc, statistics, tpr_at, tpr_reversed_at
from unlearn_cli.observations.gradient_norms import GradientNorms
from unlearn_cli.observations.token_scores import sentences_of
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study

RNG = np.random.default_rng(0)


def both(members, nonmembers):
    return Sides(
        np.array(members, float), np.array(nonmembers, float), np.arange(len(members)), np.arange(len(nonmembers))
    )


def one(read, *scores):
    return read(_curve(both(*scores))).item()


@pytest.mark.parametrize("ties", [True, False])
def test_areas_and_rates_are_scikit_learns(ties):
    members, nonmembers = RNG.normal(0.7, 1, 60), RNG.normal(0, 1, 90)
    if ties:
        members, nonmembers = members.round(), nonmembers.round()
    truth, scores = np.repeat([1, 0], [60, 90]), np.concatenate([members, nonmembers])
    assert one(auc, members, nonmembers) == pytest.approx(roc_auc_score(truth, scores))
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    assert one(advantage, members, nonmembers) == pytest.approx((true - false).max())
    for alpha in (0.0, 0.05, 0.1, 0.5):
        assert one(tpr_at(alpha), members, nonmembers) == pytest.approx(true[false <= alpha].max())
        turned = one(tpr_at(alpha), -members, -nonmembers)
        assert one(tpr_reversed_at(alpha), members, nonmembers) == pytest.approx(turned)


def test_limits_of_the_harness():
    values = RNG.normal(size=30)
    assert one(auc, values, values) == pytest.approx(0.5)
    assert one(auc, values + 100, values) == 1.0
    assert one(tpr_at(0.0), values + 100, values) == 1.0
    others = RNG.normal(size=40)
    assert one(auc, -values, -others) == pytest.approx(1 - one(auc, values, others))
    for read in (auc, advantage, tpr_at(0.1)):
        assert one(read, np.exp(values), np.exp(others)) == pytest.approx(one(read, values, others))
    assert one(auc, [1.0], [1.0, 0.0, 2.0]) == 0.5


def test_a_resample_is_the_curve_of_repeated_items():
    members, nonmembers = RNG.normal(size=8).round(1), RNG.normal(size=6).round(1)
    times, others = RNG.integers(0, 3, 8), RNG.integers(1, 3, 6)
    weighted = _Sorted(both(members, nonmembers)).curve(times[None].astype(float), others[None].astype(float))
    repeated = _curve(both(np.repeat(members, times), np.repeat(nonmembers, others)))
    for read in (auc, advantage, tpr_at(0.2), tpr_reversed_at(0.2)):
        assert read(weighted) == pytest.approx(read(repeated))


def test_the_interval_widens_with_clusters_and_covers_the_standard_error():
    members, nonmembers = RNG.normal(0.5, 1, 200), RNG.normal(0, 1, 200)
    apart = Sides(members, nonmembers, np.arange(200), np.arange(200))
    joint = Sides(np.repeat(members, 4), np.repeat(nonmembers, 4), *[np.repeat(np.arange(200), 4)] * 2)
    found = [statistics([item], {"auc": auc}, Bootstrap())["auc"] for item in (apart, joint)]
    assert found[1].value == pytest.approx(found[0].value)
    assert np.std(found[1].draws) == pytest.approx(np.std(found[0].draws))  # four sentences of a subject are one
    area = found[0].value  # Hanley & McNeil 1982
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + 199 * (q1 - area**2) + 199 * (q2 - area**2)) / 200**2
    assert np.std(found[0].draws) == pytest.approx(np.sqrt(variance), rel=0.15)
    two = statistics([apart, both(nonmembers, members)], {"auc": auc}, Bootstrap(samples=20))["auc"]
    assert two.value == pytest.approx(0.5)  # the mean over two models of AUC and 1 - AUC


def test_scores_by_hand():
    logp = np.array([[-1.0, -2.0, -3.0, -10.0], [-5.0, 0.0, 0.0, 0.0]])
    scores = scored(sides(1).only(np.arange(2)), logp)
    assert MiaLoss().score(scores) == pytest.approx([-4.0, -1.25])
    assert MiaZlib().score(scores | {"bytes_answer": np.array([8, 5])}) == pytest.approx([-0.5, -0.25])
    assert MiaMinK(k=0.5).score(scores) == pytest.approx([-6.5, -2.5])
    assert MiaMinK(k=1.0).score(scores) == pytest.approx(MiaLoss().score(scores))
    assert MiaMinK(k=0.1).score(scores) == pytest.approx([-10.0, -5.0])  # at least one token
    part = {"answer": np.array([[False, True, True, False]] * 2), "real": np.array([[True] * 3 + [False]] * 2)}
    assert MiaLoss().score(scores | part) == pytest.approx([-2.5, 0.0])
    assert MiaLoss(scope="full").score(scores | part) == pytest.approx([-2.0, -5 / 3])
    assert MiaMinK(k=0.5).score(scores | part) == pytest.approx([-3.0, 0.0])


def test_the_share_of_tokens_is_not_lost_to_rounding():
    logp = -np.arange(100.0)[None]
    assert MiaMinK(k=0.57).score(scored(sides(1).only(np.arange(1)), logp)) == pytest.approx([-(43 + 99) / 2])


def test_min_k_pp_by_hand():
    logp = np.log([[0.5, 0.25, 0.25]])
    known = {"mean": np.full((1, 3), -1.03972), "sd": np.full((1, 3), 0.34657)}
    scores = scored(sides(1).only(np.arange(1)), logp, **known)
    assert MiaMinKPP(k=1.0).score(scores) == pytest.approx([-1 / 3], abs=1e-4)  # +1, -1, -1
    assert MiaMinKPP(k=0.2).score(scores) == pytest.approx([-1.0], abs=1e-4)
    flat = np.full((1, 3), np.log(1 / 300), dtype=np.float32)
    uniform = scored(sides(1).only(np.arange(1)), flat, mean=flat + 1e-7, sd=np.zeros((1, 3)))
    assert MiaMinKPP(k=1.0).score(uniform) == pytest.approx([0.0], abs=1e-3)


def model(above, unknown=0.0):
    """A model that gives `above` of ten requested facts more probability than every reserved one, the others less."""
    logp = np.full((30, 1), unknown)
    logp[:SIDE, 0] = np.where(np.arange(SIDE) < above, 1.0, -1.0)
    return scored(sides(), logp - 5)


ATTACKS = [MiaLoss(fpr=1.0), MiaZlib(fpr=1.0), MiaMinK(fpr=1.0), MiaMinKPP(fpr=1.0)]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda item: item.name)
def test_the_questions_of_an_attack(attack):
    values = attack.compute(told(sides(), base=model(10), edited=model(2), gold=[model(5), model(7)]))
    forget = values[f"{attack.name}/forget"]
    assert (forget.base.value, forget.edited.value, forget.gold.value) == pytest.approx((1.0, 0.2, 0.6))
    assert values[f"{attack.name}/distance"].edited.value == pytest.approx(0.3)
    assert values[f"{attack.name}/distance"].gold.value == pytest.approx(0.1)
    assert values[f"{attack.name}/retain"].edited.value == 0.5  # all tied
    assert values[f"{attack.name}/advantage"].edited.value == pytest.approx(0.2)
    assert forget.edited.ci[0] < 0.2 < forget.edited.ci[1]
    same = attack.compute(told(sides(), base=model(7), edited=model(7), gold=[model(7)]))
    for key in ("forget", "distance", "advantage"):
        value = same[f"{attack.name}/{key}"]
        assert value.edited == value.base == value.gold


def test_rates_need_enough_facts_that_were_never_seen():
    coarse = MiaLoss(fpr=0.05).compute(told(sides(), edited=model(5)))
    assert coarse["mia_loss/tpr"].status == coarse["mia_loss/tpr_reversed"].status == "skipped"
    assert "200 holdout facts; 10 are asked" in coarse["mia_loss/tpr"].reason
    assert coarse["mia_loss/forget"].status == "ok"
    probes = sides(200)
    logp = np.zeros((600, 1))
    logp[:50], logp[150:200] = 1, -1
    fine = MiaLoss(fpr=0.05).compute(told(probes, edited=scored(probes, logp)))
    assert fine["mia_loss/tpr"].edited.value == fine["mia_loss/tpr_reversed"].edited.value == 0.25


def test_a_gold_that_tells_them_apart_is_pointed_out():
    shifted = MiaLoss().compute(told(sides(), edited=model(10), gold=[model(10)]))
    assert "compare with its 1.00" in shifted["mia_loss/forget"].reason
    even = MiaLoss().compute(told(sides(), edited=model(10), gold=[model(5)]))
    assert even["mia_loss/forget"].reason is None


def test_only_what_both_sides_have_is_compared():
    template = np.array([0] * 8 + [1] * 2 + [0] * 20)  # two requested facts in a template of their own
    probes = sides(template=template)
    logp = np.zeros((30, 1))
    logp[8:10] = 50
    values = MiaLoss().compute(told(probes, edited=scored(probes, logp)))
    assert values["mia_loss/forget"].edited.value == 0.5
    assert values["mia_loss/forget"].edited.n == 18
    relation = np.array([1] * 10 + [0] * 20)
    apart = MiaLoss().compute(told(sides(), edited=scored(sides(), logp, relation=relation)))
    assert apart["mia_loss/forget"].status == "skipped"
    assert apart["mia_loss/retain"].status == "ok"


def test_without_reserved_subjects_nothing_is_claimed():
    probes = sides()
    splits = {**probes.splits, "holdout": Split("holdout", np.empty(0, int), np.empty(0, int), "to_gold", "none kept")}
    values = MiaLoss(fpr=1.0).compute(told(replace(probes, splits=splits), edited=model(5)))
    assert {value.status for value in values.values()} == {"skipped"}
    assert values["mia_loss/forget"].reason == "none kept"
    assert Privleak().compute(told(replace(probes, splits=splits), edited=model(5)))["privleak"].status == "skipped"


def test_reference_takes_gold_as_the_reference():
    same = MiaReference(fpr=1.0).compute(told(sides(), base=model(10), edited=model(7), gold=[model(7)]))
    assert same["mia_reference/forget"].edited.value == 0.5  # every ratio is 0
    assert same["mia_reference/forget"].base.value == pytest.approx(0.5 + 0.3 / 2)  # three of ten gained
    assert same["mia_reference/forget"].gold is None
    two = MiaReference(fpr=1.0).compute(told(sides(), edited=model(7), gold=[model(7), model(7)]))
    assert two["mia_reference/forget"].gold.value == 0.5


@pytest.mark.parametrize(("edited", "gold", "leak"), [(6, 6, 0.0), (9, 5, -80.0), (2, 6, 100.0), (10, 5, -100.0)])
def test_privleak_by_hand(edited, gold, leak):
    value = Privleak().compute(told(sides(), base=model(10), edited=model(edited), gold=[model(gold)]))["privleak"]
    assert value.edited.value == pytest.approx(leak)
    assert value.base.value == pytest.approx(-100.0)
    assert value.gold.value == 0.0
    family = PrivleakFamily().compute(told(sides(), edited=model(edited), gold=[model(gold)]))
    relative = (edited - gold) / gold
    assert family["privleak_family/loss"].edited.value == pytest.approx(100 * relative)
    assert family["privleak_family/score"].edited.value == pytest.approx(max(0.0, 1 - min(abs(relative), 1)))


def test_privleak_says_what_is_undefined():
    perfect = Privleak().compute(told(sides(), edited=model(5), gold=[model(10)]))["privleak"]
    assert (perfect.status, perfect.reason) == ("skipped", "gold tells forget from holdout perfectly")
    alone = told(sides(), edited=model(9))
    assert Privleak().compute(alone)["privleak"].status == "skipped"
    assert Privleak(fallback_auc=0.5).compute(alone)["privleak"].edited.value == pytest.approx(-80.0)
    none = PrivleakFamily().compute(told(sides(), edited=model(9), gold=[model(0)]))
    assert {value.reason for value in none.values()} == {"gold's area is 0"}


def test_gradient_norms_are_those_of_the_plain_loss(tmp_path):
    study = Study.of(quick(tmp_path))
    net = study.experiment.model.build(study.world.vocabulary.size, study.world.max_length, 0).eval()
    scene = scene_of(study)
    found = GradientNorms(scope="answer", p="2", most=4).observe(net, scene)
    wide = GradientNorms(scope="full", p="inf", most=4).observe(net, scene)
    np.testing.assert_array_equal(found["rows"], wide["rows"])
    sentences = sentences_of(scene, found["rows"])
    for row in range(0, len(found["rows"]), 7):
        ids = torch.from_numpy(sentences.input_ids[row : row + 1, : sentences.length[row]])
        logps = net(ids).logits[0, :-1].log_softmax(-1)
        own = -logps[torch.arange(len(logps)), ids[0, 1:]]
        for loss, norm, order in ((own[sentences.answer_start[row] - 1], found, 2), (own.mean(), wide, torch.inf)):
            gradients = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
            expected = np.mean([torch.linalg.vector_norm(g, order).item() for g in gradients])
            assert norm["norm"][row] == pytest.approx(expected, rel=1e-3)


def test_gradnorm_takes_the_small_gradient_for_a_member():
    probes, attack = sides(), MiaGradnorm(fpr=1.0)
    norm = np.where(np.arange(30) < 9, 0.1, 1.0)
    seen = {"rows": np.arange(30), "relation": np.zeros(30, dtype=int), "norm": norm}
    values = attack.compute(told(probes, attack.observation, edited=seen))
    assert values["mia_gradnorm/forget"].edited.value == pytest.approx(0.95)


def quantile_world(relation):
    """Reserved facts of relation 1 are far more probable than those of relation 0; so are the requested ones."""
    probes, n = sides(len(relation) // 3), len(relation)
    score = np.random.default_rng(5).normal(size=n) + 6 * relation
    p = 1 / (1 + np.exp(-(score - 8)))
    rest = np.repeat((1 - p)[:, None] / 4, 4, axis=1)
    answers = from_probabilities(np.concatenate([p[:, None], rest], axis=1))
    made = told(probes, edited=scored(probes, np.zeros((n, 1)), relation=relation))
    return replace(made, predictions={"edited": (answers,)})


def test_the_quantile_is_calibrated_in_each_relation():
    relation = np.arange(3000) % 2
    values = MiaQuantile(alpha=0.1).compute(quantile_world(relation))
    assert values["mia_quantile/false_rate"].edited.value == pytest.approx(0.1, abs=0.04)
    assert values["mia_quantile/member_rate"].edited.value == pytest.approx(0.1, abs=0.04)
    assert values["mia_quantile/forget"].edited.n == 1500  # half of the reserved subjects were the attacker's
    assert values["mia_quantile/forget"].edited.value == pytest.approx(0.5, abs=0.05)


def test_constant_features_give_the_empirical_quantile():
    scores = np.random.default_rng(0).normal(size=101)
    found = quantile(np.ones((101, 1)), scores, np.arange(101), 0.9)
    assert found == pytest.approx(np.quantile(scores, 0.9), abs=1e-4)
    assert (scores > found + 1e-6).mean() == pytest.approx(0.1, abs=1 / 101)


def test_relations_that_the_attacker_never_saw_are_attacked_alone():
    relation = np.arange(600) % 2
    values = MiaQuantile(alpha=0.1, unseen=[1]).compute(quantile_world(relation))
    assert 130 < values["mia_quantile/forget"].edited.n < 170  # a hundred requested, about half of a hundred reserved
    assert values["mia_quantile/false_rate"].edited.value == 1.0  # the quantile of another relation is far too low
    none = MiaQuantile(unseen=[0, 1]).compute(quantile_world(relation))
    assert {value.status for value in none.values()} == {"skipped"}
