"""Fronts, areas and steps against numbers by hand."""

import numpy as np
import pytest

from unlearn_cli.analysis.pareto import Scale, best_forgetting, best_utility, front, hypervolume
from unlearn_cli.analysis.path import first_lasting, follow, item_steps, quantile
from unlearn_cli.analysis.tradeoff import tradeoff_auc

POINTS = np.array([(0, 1), (1, 0), (0.5, 0.5), (0.4, 0.4)])


def test_front_leaves_out_what_is_dominated():
    assert front(POINTS).tolist() == [0, 2, 1]


def test_equal_points_do_not_dominate_each_other():
    assert sorted(front(np.array([(0.5, 0.5), (0.5, 0.5), (0.2, 0.5)]))) == [0, 1]


def test_hypervolume_by_hand():
    assert hypervolume(np.array([(1, 1)])) == 1
    assert hypervolume(POINTS) == 0.25
    assert hypervolume(np.array([(0.5, 1), (1, 0.5)])) == 0.75
    assert hypervolume(np.empty((0, 2))) == 0


def test_hypervolume_cannot_exceed_one():
    assert hypervolume(np.array([(1.3, 2.0), (-1, 5)])) == 1


def test_hypervolume_against_counted_cells():
    rng = np.random.default_rng(0)
    points = rng.integers(0, 21, (12, 2)) / 20
    x, y = np.meshgrid(np.arange(20) / 20 + 0.025, np.arange(20) / 20 + 0.025)
    inside = np.any([(a > x) & (b > y) for a, b in points], axis=0)
    assert hypervolume(points) == pytest.approx(inside.mean())


def test_best_at_a_floor():
    points = np.array([(0.96, 0.7), (1.0, 0.6), (0.5, 0.97), (0.3, 0.99)])
    assert best_utility(points) == 0.7
    assert best_forgetting(points) == 0.5
    assert best_utility(points[2:]) is None
    assert best_forgetting(points[:2]) is None


def test_scale_by_base_and_gold():
    """Knowledge 1 at the base and 0.05 at gold; half-way is 0.525. Beyond gold counts as gold."""
    scale = Scale(known=1.0, unknown=0.05, intact=0.8, collapsed=0.2)
    assert scale.forgetting(0.525) == pytest.approx(0.5)
    assert [scale.forgetting(x) for x in (1.0, 0.05, 0.0)] == [0, 1, 1]
    assert [scale.utility(x) for x in (0.2, 0.5, 0.8, 0.9)] == pytest.approx([0, 0.5, 1, 1])
    assert Scale(0.05, 0.05, 1.0).forgetting(0.0) is None


def test_tradeoff_by_hand():
    assert tradeoff_auc([0, 0.5, 1], [0.9, 0.8, 0.4]) == pytest.approx(0.725)
    assert tradeoff_auc([0, 0.5, 1], [0.9, 0.8, 0.4], form="upcore") == pytest.approx(0.725)


def test_tradeoff_anchors():
    """(0, 1), (0.5, 0.8), (1, 0): 0.45 + 0.2. A run with x = 0 keeps its own y, whatever the base has."""
    assert tradeoff_auc([0.5], [0.8], base_y=1.0) == pytest.approx(0.65)
    assert tradeoff_auc([0, 0.5], [0.6, 0.8], base_y=1.0) == pytest.approx(0.35 + 0.2)
    assert tradeoff_auc([0.5], [0.8]) is None
    assert tradeoff_auc([0.5], [0.8], form="upcore") is None
    assert tradeoff_auc([], [], base_y=1.0) is None


def test_tradeoff_averages_equal_deletion():
    assert tradeoff_auc([1, 0, 1], [0.2, 1, 0.6]) == pytest.approx((1 + 0.4) / 2)


def test_steps_to_forget_must_last():
    """Down at 10, back at 20, down from 30 on: three evaluations in a row start at 30."""
    steps, knowledge = [0, 10, 20, 30, 40, 50], [1, 0.05, 0.2, 0.06, 0.05, 0.04]
    path = follow(steps, knowledge, gold=0.04, utility=[1, 0.99, 0.98, 0.97, 0.96, 0.95])
    assert (path.forgotten.step, path.utility, path.over.step) == (30, 0.97, None)
    assert str(path.over) == "> 50"


def test_too_few_evaluations_left_is_censored():
    steps, knowledge = [0, 10, 20, 30], [1, 0.5, 0.02, 0.02]
    assert follow(steps, knowledge, gold=0.02).forgotten.step is None
    assert follow(steps, knowledge, gold=0.02, patience=2).forgotten.step == 20


def test_over_forgetting_is_below_gold():
    path = follow([0, 1, 2, 3], [0.5, 0.1, 0.1, 0.1], gold=0.3)
    assert (path.forgotten.step, path.over.step) == (1, 1)
    assert follow([0, 1, 2], [0.28, 0.28, 0.28], gold=0.3).over.step is None


def test_first_steps_of_items():
    known = np.array([[1, 1, 0], [0, 1, 1], [0, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=bool)
    reached = item_steps([0, 5, 10, 15, 20], known)
    assert [item.step for item in reached] == [5, None, 10]
    assert quantile(reached).step == 10
    assert quantile(reached, 0.9).step is None
    assert quantile(reached, 1 / 3).step == 5


def test_patience_one_is_the_first_time():
    assert first_lasting([3, 6], [False, True], 1).step == 6
