"""Leaderboard, KLoM and the metrics' own trial, by hand."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from unlearn_cli.analysis.judged import auc, faithfulness, pools_differ, quantization, relearning, robustness
from unlearn_cli.analysis.klom import floor, klom, margins, summary
from unlearn_cli.analysis.leaderboard import aggregate, harmonic_mean, memorization, privacy, utility
from unlearn_cli.evaluation import Predictions


def test_harmonic_mean():
    assert harmonic_mean([0.4, 0.4, 0.4]) == pytest.approx(0.4)
    assert harmonic_mean([1, 0.5]) == pytest.approx(2 / 3)
    assert harmonic_mean([0.9, 0.0]) == 0
    assert harmonic_mean([0.9, -0.1]) == 0
    assert harmonic_mean([0.3, 0.6, 0.7]) == pytest.approx(scipy.stats.hmean([0.3, 0.6, 0.7]))


def test_leaderboard():
    assert memorization(0.3, 0.3, 0.3, 0.3) == pytest.approx(0.7)
    assert memorization(0.0, 1.0, 0.0, 0.0) == 0
    assert privacy([0.5, 1.0]) == pytest.approx(2 / 3)
    assert aggregate(0.6, 0.6, 0.6) == pytest.approx(0.6)
    assert aggregate(1.0, None, 0.5) == pytest.approx(2 / 3)
    assert aggregate(0.6, 0.0, 0.6) == 0


def test_utility_is_capped_before_the_mean():
    """HM(min(1.5, 1), 0.5) = 2/3, not min(HM(1.5, 0.5), 1) = 0.75."""
    assert utility([1.5, 0.5]) == pytest.approx(2 / 3)


def test_klom_of_the_same_models_is_zero():
    values = np.random.default_rng(0).normal(size=(20, 5))
    assert klom(values, values).tolist() == [0] * 5
    assert klom(np.ones((4, 1)), np.ones((6, 1))).tolist() == [0]


def test_klom_of_disjoint_margins():
    assert klom(np.full((20, 1), -3.0), np.full((20, 1), 5.0)) == pytest.approx([np.log(1e5)])


def test_klom_by_hand():
    """Two bins over [0, 1]: p = (3/4, 1/4), q = (1/2, 1/2); the value 1 is in the last bin."""
    found = klom([[0], [0.1], [0.2], [1]], [[0], [0.4], [0.6], [1]], bins=2)
    assert found == pytest.approx([0.75 * np.log(1.5) + 0.25 * np.log(0.5)])


def test_klom_clips():
    """-500 and -100 are the same after clipping."""
    assert klom(np.full((3, 1), -500.0), np.full((3, 1), -100.0)).tolist() == [0]


def test_klom_floor_is_noise():
    """Independent samples of one distribution: nonzero for few models, falling with their number."""
    rng = np.random.default_rng(0)
    few, many = (summary(floor(rng.normal(size=(n, 40))))["mean"] for n in (20, 2000))
    assert few > 1 > 0.05 > many > 0


def test_margins_by_hand():
    """P = (0.7, 0.2, 0.1): log 0.7/0.3 and log 0.2/0.8; an object that the relation lacks plays no part."""
    with np.errstate(divide="ignore"):
        logps = np.log(np.array([[0.7, 0.2, 0.1, 0.0]] * 2, dtype=np.float32))
    predictions = Predictions(logps, np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.float32))
    found = margins(predictions, np.array([0, 1]), np.array([0, 1]))
    assert found == pytest.approx([np.log(7 / 3), np.log(1 / 4)], abs=1e-6)


def test_faithfulness_of_a_perfect_metric():
    found = faithfulness([1.0, 0.98, 0.99], [0.02, 0.1, 0.04])
    assert (found.auc, found.sign, found.accuracy) == (1, 1, 1)
    assert found.threshold == pytest.approx((0.98 + 0.1) / 2)


def test_faithfulness_turns_a_metric():
    """Lower means more knowledge, as with a rank; the threshold is on the metric as it is."""
    found = faithfulness([1, 2], [9, 12])
    assert (found.auc, found.sign, found.threshold) == (1, -1, 5.5)
    assert faithfulness([1, 2], [9, 12], sign=1).auc == 0


def test_a_metric_that_says_nothing():
    found = faithfulness([0.5, 0.5], [0.5, 0.5])
    assert (found.auc, found.threshold) == (0.5, None)


def test_auc_against_scikit_learn():
    rng = np.random.default_rng(0)
    known, unknown = rng.integers(0, 8, 30), rng.integers(0, 6, 20)
    labels = np.repeat([1, 0], [30, 20])
    assert auc(known, unknown) == pytest.approx(roc_auc_score(labels, np.concatenate([known, unknown])))


def test_pools_differ():
    """Three above three: 2 of 20 labellings. Without ties Mann-Whitney's exact test."""
    assert pools_differ([1, 1, 1], [0, 0, 0]) == 2 / 20
    assert pools_differ([0, 0], [0, 0]) == 1
    a, b = np.random.default_rng(0).normal([[0.8], [0]], 1, (2, 6))
    expected = scipy.stats.mannwhitneyu(a, b, method="exact").pvalue
    assert pools_differ(a, b) == pytest.approx(expected)
    many = np.random.default_rng(1).normal([[0.5], [0]], 1, (2, 12))
    assert pools_differ(*many) == pytest.approx(scipy.stats.mannwhitneyu(*many, method="exact").pvalue, abs=0.01)


def test_relearning_by_hand():
    assert relearning(0.1, 0.6, 0.0, 0.2) == pytest.approx(0.4)
    assert relearning(0.1, 0.1, 0.0, 0.0) == 1  # unaffected
    assert relearning(0.1, 0.2, 0.0, 0.3) == 1  # gold jumps more
    assert relearning(0.3, 0.2, 0.0, 0.1) == 1  # falls where gold's rises
    assert relearning(0.1, 0.6, 0.1, 0.0) == 0  # rises where gold's falls


def test_quantization_by_hand():
    assert quantization(0.1, 0.4) == pytest.approx(0.25)
    assert quantization(0.4, 0.1) == 1
    assert quantization(0.4, 0.1, "as_coded") == pytest.approx(0.25)
    assert quantization(0.4, 0.1, "symmetric") == quantization(0.1, 0.4, "symmetric") == pytest.approx(0.4)
    assert quantization(0.2, 0.0) == quantization(0.0, 0.0) == quantization(0.0, 0.0, "symmetric") == 1


def test_robustness_by_hand():
    assert robustness([0.4, 0.6], [1.0]) == pytest.approx(2 / 3)
    assert robustness([], [1.0]) is None
