"""Paired tests, ranks and seeds: by hand, and against scipy."""

import numpy as np
import pytest
import scipy.stats

from unlearn_cli.analysis.paired import average_ranks, holm, mcnemar, mcnemar_counts, ranking, sign_flip, wilcoxon
from unlearn_cli.analysis.seeds import mean_over_seeds, summarize, two_level
from unlearn_cli.evaluation import Bootstrap
from unlearn_cli.statistics import Part


def test_mcnemar_by_hand():
    assert mcnemar_counts(10, 0) == 2 * 2**-10
    assert mcnemar_counts(4, 4) == 1
    assert mcnemar_counts(0, 0) == 1
    assert mcnemar([1, 1, 1, 0, 1], [0, 0, 0, 1, 1]) == mcnemar_counts(3, 1)


@pytest.mark.parametrize(("b", "c"), [(1, 0), (7, 2), (30, 45), (200, 260)])
def test_mcnemar_is_the_binomial_test(b, c):
    assert mcnemar_counts(b, c) == pytest.approx(scipy.stats.binomtest(b, b + c).pvalue)


def test_sign_flips_by_hand():
    """Sums 3, 1, 2 (the zero plays no part): only +++ and --- are as extreme as 6, of 8 labellings."""
    assert sign_flip([3, 1, 2, 0]) == 2 / 8
    assert sign_flip([0, 0]) == 1


def test_signs_of_a_cluster_flip_together():
    values = np.ones(12)
    assert sign_flip(values) == 2 / 2**12
    assert sign_flip(values, np.repeat([5, 9], 6)) == 2 / 4


def test_many_sign_flips_count_the_observed_one():
    values = np.full(40, 1.0)
    assert sign_flip(values, samples=999) == 1 / 1000
    rng = np.random.default_rng(0)
    values = rng.normal(0.3, 1, 40)
    many = sign_flip(values, samples=20_000)
    test = scipy.stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=20_000, rng=rng)
    assert many == pytest.approx(test.pvalue, abs=0.01)
    assert many == sign_flip(values, samples=20_000)


@pytest.mark.parametrize("n", [6, 12, 25])
def test_wilcoxon_exact(n):
    values = np.random.default_rng(n).normal(0.4, 1, n)
    assert wilcoxon(values) == pytest.approx(scipy.stats.wilcoxon(values, method="exact").pvalue)


def test_wilcoxon_with_ties_by_hand():
    """Ranks 2, 2, 2, 4; the negative one has rank 2: of 16 labellings 8 have a smaller sum of at most 2."""
    assert wilcoxon([1, 1, -1, 2, 0]) == pytest.approx(2 * 4 / 16)
    assert wilcoxon([0, 0]) == 1


def test_wilcoxon_of_many():
    values = np.random.default_rng(3).integers(-4, 6, 200).astype(float)
    expected = scipy.stats.wilcoxon(values, method="approx", correction=False)
    assert wilcoxon(values) == pytest.approx(expected.pvalue)


def test_holm_by_hand():
    """0.01 x 4, 0.02 x 3, 0.03 x 2 is not below the one before, 0.9 x 1."""
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.5, 0.6]).tolist() == [1, 1]


def test_ranks_share_ties():
    assert average_ranks([0.2, 0.5, 0.2, 0.9]).tolist() == [1.5, 3, 1.5, 4]
    values = np.random.default_rng(0).integers(0, 5, 30)
    assert average_ranks(values).tolist() == scipy.stats.rankdata(values).tolist()


def test_friedman_and_nemenyi():
    scores = np.random.default_rng(1).integers(0, 6, (8, 4)).astype(float)
    found = ranking(scores)
    expected = scipy.stats.friedmanchisquare(*scores.T)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    # q_0.05 = 2.569 for four methods (Demsar 2006, table 5)
    assert found.critical == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 8)), abs=1e-3)


def test_ranking_of_the_same_order_everywhere():
    found = ranking(np.array([[0.9, 0.5, 0.1]] * 4))
    assert found.ranks.tolist() == [1, 2, 3]
    assert found.statistic == pytest.approx(8)  # N (k - 1), the most there is
    assert ranking(np.ones((3, 3))).p == 1
    with pytest.raises(ValueError, match="1 worlds"):
        ranking(np.ones((1, 3)))


def test_mean_over_seeds_by_hand():
    """1, 2, 3: s.d. 1, t_2 = 4.302653, half-width 4.302653 / sqrt 3."""
    found = summarize([1.0, 2.0, 3.0])
    assert (found.mean, found.n, found.sd) == (2, 3, 1)
    assert found.ci == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    assert summarize([0.3]).ci is None
    assert summarize([0.3, 0.3, 0.3]).ci == pytest.approx((0.3, 0.3))


def test_t_interval_against_scipy():
    values = np.random.default_rng(0).normal(size=7)
    expected = scipy.stats.t.interval(0.9, 6, values.mean(), scipy.stats.sem(values))
    assert summarize(values.tolist(), 0.9).ci == pytest.approx(expected)


def test_two_level_bootstrap():
    """Seeds at 0 and 1 without any other spread: draws of 0, 1/2, 1 with odds 1/4, 1/2, 1/4."""
    runs = [Part(np.zeros(6), np.arange(6)), Part(np.ones(6), np.arange(6))]
    assert mean_over_seeds(runs) == 0.5
    assert two_level(runs, Bootstrap(samples=2000)) == (0, 1)
    assert two_level(runs, Bootstrap(samples=2000, level=0.4)) == (0.5, 0.5)
    same = [Part(np.full(4, 0.3), np.arange(4))] * 3
    assert two_level(same, Bootstrap()) == pytest.approx((0.3, 0.3))


def test_both_levels_widen_the_interval():
    """Variance of the mean of K seeds of n subjects: (between + within / n) / K."""
    rng = np.random.default_rng(0)
    runs = [Part(rng.normal(level, 1.0, 50), np.arange(50)) for level in rng.normal(0, 0.3, 40)]
    low, high = two_level(runs, Bootstrap(samples=4000))
    means = [part.values.mean() for part in runs]
    spread = np.sqrt((np.var(means) + np.mean([part.values.var() / 50 for part in runs])) / 40)
    assert (high - low) / (2 * 1.96) == pytest.approx(spread, rel=0.06)
