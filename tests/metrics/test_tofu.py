"""TOFU by hand: truth ratios, the harmonic mean of nine, the test against gold."""

import math
from dataclasses import replace

import numpy as np
import pytest
from doubles import O, amnesiac, evaluation, from_probabilities, mixed, oracle, shifted, uniform, world
from scipy.stats import ks_2samp

from unlearn_cli.evaluation import Split
from unlearn_cli.metrics.forget_quality import ForgetQuality, ks_test
from unlearn_cli.metrics.model_utility import ModelUtility
from unlearn_cli.metrics.targets import FACTS
from unlearn_cli.metrics.tofu import closeness_to_one, knowledge, log_truth_ratios, truthfulness, wrong_answers
from unlearn_cli.metrics.tofu_probability import TofuProbability
from unlearn_cli.metrics.tofu_rouge import ALL, TofuRouge, answers
from unlearn_cli.metrics.truth_ratio import TruthRatio
from unlearn_cli.metrics.utility_delta import UtilityDelta

PROBES, OLD = world()
N = len(OLD)
HELDOUT = np.isin(np.arange(N), PROBES.splits["edited_para"].rows)


def observed(probes=PROBES, tokens=1, **roles):
    """The doubles, with what is observed of them: their greedy object is what they say."""
    found = evaluation(probes, **roles)
    facts = {"relation": np.zeros(N, int), "objects": np.full(N, O), "tokens": np.array([tokens]), "heldout": HELDOUT}
    seen = {("edited", FACTS): (facts,)}
    for role, models in found.predictions.items():
        seen[role, answers(None)] = tuple(_said(probes, model) for model in models)
    return replace(found, observed=seen)


def _said(probes, model):
    """One token: 10 + the object; padding where the answer is none."""
    found = {"set": [], "rows": [], "reference": [], "tokens": []}
    for number, name in enumerate(ALL):
        parts = [
            s for s in probes.splits.values() if s.name == name or (name == "retain/seen" and s.name[-5:] == "/seen")
        ]
        for split in parts:
            greedy = model.greedy[split.rows]
            found["set"] += [number] * len(split.rows)
            found["rows"] += split.rows.tolist()
            found["reference"] += (10 + split.answer).tolist()
            found["tokens"] += np.where(greedy >= 0, 10 + greedy, 1).tolist()
    arrays = {key: np.array(values) for key, values in found.items()}
    return arrays | {key: arrays[key][:, None] for key in ("reference", "tokens")}


def value(metric, key, **roles):
    return metric.compute(observed(**roles))[key].edited.value


def test_truth_ratio_of_one_fact_by_hand():
    """P(right) = 0.5, wrong 0.1 and 0.4: arithmetic 0.5, geometric 0.4."""
    p = np.tile([0.5, 0.1, 0.4], (N, 1))
    model = from_probabilities(np.concatenate([p, np.zeros((N, O - 3))], axis=1))
    split = Split("forget", np.array([0]), np.array([0]), "to_gold")
    facts = {"relation": np.zeros(N, int), "objects": np.full(N, 3), "tokens": np.array([1]), "heldout": HELDOUT}
    found = replace(evaluation(PROBES, edited=model), observed={("edited", FACTS): (facts,)})
    ratios = {how: log_truth_ratios(found, model, split, 2, how)[1] for how in ("geometric", "arithmetic")}
    assert np.exp(ratios["geometric"]) == pytest.approx([0.4])
    assert np.exp(ratios["arithmetic"]) == pytest.approx([0.5])
    assert knowledge(ratios["geometric"]) == pytest.approx([1 / 1.4])
    assert closeness_to_one(-ratios["geometric"]) == pytest.approx([0.4])
    assert truthfulness(ratios["geometric"]) == pytest.approx([0.6])
    assert truthfulness(-ratios["geometric"]) == pytest.approx([0])
    assert log_truth_ratios(found, model, split, 9, "geometric")[1] == pytest.approx(
        ratios["geometric"]
    )  # only 2 exist


def test_wrong_answers_are_others_and_the_same_in_every_phrasing():
    rows = np.arange(N)
    found = wrong_answers(PROBES, np.full(N, O), rows, OLD, 3, seed=0)
    assert (found != OLD[:, None]).all() and (found >= 0).all()
    assert all(len(set(row)) == 3 for row in found.tolist())
    first = {int(fact): found[i].tolist() for i, fact in reversed(list(enumerate(PROBES.fact)))}
    assert all(first[int(fact)] == row for fact, row in zip(PROBES.fact, found.tolist(), strict=True))
    assert (wrong_answers(PROBES, np.full(N, O), rows, OLD, 9, seed=0)[:, O - 1 :] == -1).all()


@pytest.mark.parametrize(
    ("model", "closeness", "knows", "utility"),
    [(oracle(OLD), 1 / 36, 36 / 37, 35 / 36), (uniform(N), 1, 0.5, 0), (amnesiac(PROBES, OLD), 1, 0.5, 35 / 36)],
)
def test_closed_forms(model, closeness, knows, utility):
    """The oracle: 0.9 on the right object, 0.025 on each other, 36 to 1."""
    assert value(TruthRatio(), "truth_ratio/closeness/forget", edited=model) == pytest.approx(closeness, abs=1e-6)
    assert value(TruthRatio(), "truth_ratio/knowledge/forget", edited=model) == pytest.approx(knows, abs=1e-6)
    assert value(TruthRatio(), "truth_ratio/utility/far", edited=model) == pytest.approx(utility, abs=1e-6)


def test_probability_per_token_and_among_options():
    assert value(TofuProbability(), "tofu_probability/forget", edited=oracle(OLD)) == pytest.approx(0.9, abs=1e-6)
    longer = TofuProbability().compute(observed(edited=oracle(OLD), tokens=2))
    assert longer["tofu_probability/forget"].edited.value == pytest.approx(math.sqrt(0.9), abs=1e-6)
    share = 0.9 / (0.9 + 3 * 0.025)
    assert value(TofuProbability(wrong=3), "tofu_probability/far", edited=oracle(OLD)) == pytest.approx(share, abs=1e-6)
    assert value(TofuProbability(wrong=3), "tofu_probability/near", edited=uniform(N)) == pytest.approx(1 / 4)


def test_rouge_of_one_word_is_exact_match():
    assert value(TofuRouge(), "tofu_rouge/forget", edited=oracle(OLD)) == 1
    assert value(TofuRouge(), "tofu_rouge/forget", edited=amnesiac(PROBES, OLD)) == 0
    half = mixed(oracle(OLD), shifted(OLD), PROBES.splits["unrelated/unseen"].rows[:10])
    assert value(TofuRouge(), "tofu_rouge/far", edited=half) == 0.5


def test_model_utility_is_the_harmonic_mean_of_its_nine():
    found = ModelUtility().compute(observed(base=oracle(OLD), edited=mixed(oracle(OLD), uniform(N), np.arange(30))))
    nine = [entry.edited.value for key, entry in found.items() if "/" in key]
    assert len(nine) == 9
    hand = 0 if min(nine) == 0 else 9 / sum(1 / part for part in nine)
    assert found["model_utility"].edited.value == pytest.approx(hand)
    assert value(ModelUtility(), "model_utility", edited=shifted(OLD)) == 0
    assert found["model_utility"].edited.ci[0] <= hand <= found["model_utility"].edited.ci[1]


def test_nothing_lost_is_a_ratio_of_one_and_perplexity_is_turned_over():
    same = UtilityDelta().compute(observed(base=oracle(OLD), edited=oracle(OLD)))
    assert {key: entry.edited.value for key, entry in same.items()} == pytest.approx(dict.fromkeys(same, 1.0))
    worse = UtilityDelta().compute(observed(base=oracle(OLD), edited=oracle(OLD, error=0.55)))
    assert worse["utility_delta/perplexity"].edited.value == pytest.approx(0.45 / 0.9, abs=1e-6)  # PPL 1/0.9 and 1/0.45


def test_perplexity_is_of_a_token_where_answers_have_several():
    """Answers of two tokens with 0.9 and 0.45: a token has the square roots, so that the ratio is (1/2)^(1/2)."""
    found = observed(base=oracle(OLD), edited=oracle(OLD, error=0.55))
    long = replace(found.probes, lengths=np.full((N, O + 1), 2))
    worse = UtilityDelta().compute(replace(found, probes=long))
    assert worse["utility_delta/perplexity"].edited.value == pytest.approx(0.5**0.5, abs=1e-6)


def test_ks_test_against_scipy_and_its_invariance():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40), rng.normal(0.5, size=40)
    statistic, log10 = ks_test(a, b)
    assert statistic == pytest.approx(ks_2samp(a, b).statistic)
    assert 10**log10 == pytest.approx(ks_2samp(a, b).pvalue)
    assert ks_test(-a, -b) == pytest.approx((statistic, log10))
    assert ks_test(np.exp(a), np.exp(b)) == pytest.approx((statistic, log10))
    assert ks_test(a, a + 100)[0] == 1
    assert ks_test(np.array([np.nan]), b) is None


def test_forget_quality_of_gold_is_perfect():
    gold = amnesiac(PROBES, OLD)
    found = ForgetQuality().compute(observed(base=oracle(OLD), edited=gold, gold=[gold]))
    values = {key.removeprefix("forget_quality/"): entry.edited.value for key, entry in found.items()}
    assert values == pytest.approx({"pvalue": 1, "log10_p": 0, "statistic": 0, "paired": 0})
    assert found["forget_quality/statistic"].base.value == 1
    assert found["forget_quality/paired"].base.value == pytest.approx(math.log(36), abs=1e-5)
    assert found["forget_quality/pvalue"].edited.n == 4  # facts, not probes


def test_without_relations_it_is_skipped():
    bare = evaluation(PROBES, base=oracle(OLD), edited=oracle(OLD), gold=[oracle(OLD)])
    for metric in (TofuProbability(), TofuRouge(), TruthRatio(), ModelUtility(), ForgetQuality()):
        assert {entry.status for entry in metric.compute(bare).values()} == {"skipped"}
