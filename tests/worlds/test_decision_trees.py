"""Decision trees: applied, balanced and sensitive as a recursion and redraws say; drawn by the recipe."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world_tools import assert_share, assert_spread_as

from unlearn_cli.worlds.decision_trees import (
    SCENARIOS,
    SENSITIVE,
    Field,
    Scenario,
    Tree,
    clause,
    positive_share,
    sample_records,
    sample_tree,
    scenario,
    sensitivity,
)

REDRAWS = 10_000
NAMES = sorted(SCENARIOS)
SEEDS = st.integers(0, 2**32)


def described() -> st.SearchStrategy[Scenario]:
    return st.builds(scenario, st.sampled_from(NAMES), st.sampled_from([2, 4, 5, 8, 32]))


@st.composite
def any_tree(draw: st.DrawFn) -> tuple[Scenario, Tree]:
    """Any thresholds and labels, on fields that may come again on a path."""
    made, depth = draw(described()), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(SEEDS))
    field = rng.integers(0, len(made.fields), 2**depth - 1)
    return made, Tree(depth, field, rng.integers(1, made.sizes[field]), rng.random(2**depth) < 0.5)


@st.composite
def drawn_tree(draw: st.DrawFn) -> tuple[Scenario, Tree]:
    made = draw(described())
    return made, sample_tree(made, draw(st.integers(1, 5)), np.random.default_rng(draw(SEEDS)))


def decide(tree: Tree, record: list[int], node: int = 0) -> tuple[int, bool]:
    """The leaf and its label, from node to node."""
    if node >= len(tree.field):
        leaf = node - len(tree.field)
        return leaf, bool(tree.label[leaf])
    right = record[tree.field[node]] >= tree.threshold[node]
    return decide(tree, record, 2 * node + (2 if right else 1))


@settings(deadline=None, max_examples=60)
@given(any_tree(), SEEDS)
def test_all_records_at_once_are_decided_as_each_by_itself(made, seed):
    given_scenario, tree = made
    records = sample_records(given_scenario, 50, np.random.default_rng(seed))
    expected = [decide(tree, record) for record in records.tolist()]
    assert tree.leaf(records).tolist() == [leaf for leaf, _ in expected]
    assert tree(records).tolist() == [label for _, label in expected]


@settings(deadline=None, max_examples=60)
@given(any_tree(), SEEDS)
def test_a_path_leads_to_its_leaf_and_nothing_else_does(made, seed):
    given_scenario, tree = made
    records = sample_records(given_scenario, 50, np.random.default_rng(seed))
    leaf = tree.leaf(records)
    for number in range(2**tree.depth):
        steps = tree.path(number)
        on_path = np.all([(records[:, field] >= threshold) == right for field, threshold, right in steps], axis=0)
        assert len(steps) == tree.depth
        assert on_path.tolist() == (leaf == number).tolist()


def every_record(made: Scenario) -> np.ndarray:
    return np.indices(made.sizes).reshape(len(made.fields), -1).T


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(2, 5), min_size=3, max_size=3), st.integers(1, 3), SEEDS)
def test_balance_and_sensitivity_are_those_of_all_records(sizes, depth, seed):
    names = [tuple(map(str, range(size))) for size in sizes]
    made = Scenario("made", tuple(Field(f"f{i}", values, True) for i, values in enumerate(names)))
    rng = np.random.default_rng(seed)
    field = rng.integers(0, 3, 2**depth - 1)
    tree = Tree(depth, field, rng.integers(1, made.sizes[field]), rng.random(2**depth) < 0.5)
    records = every_record(made)
    assert positive_share(tree, made) == pytest.approx(tree(records).mean(), abs=1e-12)
    for number, size in enumerate(sizes):
        redrawn = np.repeat(records[None], size, axis=0)
        redrawn[:, :, number] = np.arange(size)[:, None]
        changed = np.mean([tree(other) != tree(records) for other in redrawn])
        assert sensitivity(tree, made)[number] == pytest.approx(changed, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_balance_and_sensitivity_agree_with_redraws(name, depth):
    made, rng = scenario(name, 32), np.random.default_rng(depth)
    tree = sample_tree(made, depth, rng)
    records, others = (sample_records(made, REDRAWS, rng) for _ in range(2))
    assert_share(int(tree(records).sum()), REDRAWS, positive_share(tree, made))
    for number, exact in enumerate(sensitivity(tree, made)):
        redrawn = records.copy()
        redrawn[:, number] = others[:, number]
        assert_share(int((tree(redrawn) != tree(records)).sum()), REDRAWS, exact)


@settings(deadline=None, max_examples=100)
@given(drawn_tree())
def test_a_drawn_tree_keeps_to_the_recipe(made):
    given_scenario, tree = made
    assert 0.4 <= positive_share(tree, given_scenario) <= 0.6
    sensitive = np.flatnonzero(sensitivity(tree, given_scenario) > SENSITIVE)
    assert tuple(sensitive.tolist()) == tree.fields and len(tree.fields) == tree.depth
    for leaf in range(2**tree.depth):
        assert tuple(sorted(field for field, _, _ in tree.path(leaf))) == tree.fields
    left = tree.threshold / given_scenario.sizes[tree.field]
    assert (left >= 0.4 - 1e-9).all() and (left <= 0.6 + 1e-9).all()


@settings(deadline=None, max_examples=50)
@given(drawn_tree(), SEEDS)
def test_a_distractor_has_other_fields(made, seed):
    given_scenario, tree = made
    other = sample_tree(given_scenario, tree.depth, np.random.default_rng(seed), without=tree.fields)
    assert not set(other.fields) & set(tree.fields)


def test_fields_orders_and_thresholds_are_drawn_evenly():
    made = scenario("oversight_defection", 32)
    trees = [sample_tree(made, 2, np.random.default_rng(seed)) for seed in range(2000)]
    assert_spread_as(np.bincount([field for tree in trees for field in tree.fields], minlength=10), [1] * 10)
    numbers = [t for tree in trees for t, f in zip(tree.threshold, tree.field, strict=True) if f >= 5]
    assert sorted(set(numbers)) == list(range(13, 20))  # 0.4 * 32 = 12.8 to 0.6 * 32 = 19.2
    thirds = scenario("car_purchase", 32)
    trees = [sample_tree(thirds, 3, np.random.default_rng(seed)) for seed in range(200)]
    assert any(tree.field[1] != tree.field[2] for tree in trees)  # another order on the other side
    assert any(tree.field[1] == tree.field[2] for tree in trees)


@settings(deadline=None, max_examples=50)
@given(any_tree(), SEEDS)
def test_a_tree_comes_back_from_json(made, seed):
    given_scenario, tree = made
    again = Tree.from_dict(json.loads(json.dumps(tree.to_dict())))
    assert again.to_dict() == tree.to_dict()
    records = sample_records(given_scenario, 50, np.random.default_rng(seed))
    assert again(records).tolist() == tree(records).tolist() and again.fields == tree.fields


def test_a_tree_of_the_wrong_size_is_refused():
    with pytest.raises(ValueError, match="a tree of depth 2 has 3 nodes and 4 leaves"):
        Tree(2, np.zeros(3, dtype=np.int64), np.ones(3, dtype=np.int64), np.ones(3, dtype=bool))


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_has_five_fields_of_each_kind_and_covers_its_ranges(name):
    made = scenario(name, 32)
    assert [field.ordered for field in made.fields] == [False] * 5 + [True] * 5
    assert len({field.name for field in made.fields}) == 10
    for field in made.fields[5:]:
        low, high = SCENARIOS[name][field.name]
        edges = [[int(edge) for edge in value.split("..")] for value in field.values]
        covered = [number for edge in edges for number in range(edge[0], edge[-1] + 1)]
        assert covered == list(range(low, high + 1))
        widths = [edge[-1] - edge[0] for edge in edges]
        assert max(widths) - min(widths) <= 1 and len(widths) == min(32, high - low + 1)


@pytest.mark.parametrize("bins", [0, 1, 3])
def test_bins_that_cannot_be_split_evenly_are_refused(bins):
    with pytest.raises(ValueError, match=f"int_bins = {bins}: 2, or 4 and more"):
        scenario("car_purchase", bins)


def test_records_are_uniform_and_independent():
    made = scenario("car_purchase", 8)
    records = sample_records(made, 20_000, np.random.default_rng(0))
    for number, size in enumerate(made.sizes):
        assert_spread_as(np.bincount(records[:, number], minlength=size), [1] * size)
    pairs = np.bincount(records[:, 0] * 8 + records[:, 9], minlength=16)
    assert_spread_as(pairs, [1] * 16)


def test_clauses_in_words():
    made = scenario("car_purchase", 32)
    assert clause(made, 0, 1, True) == "brand=BMW" and clause(made, 0, 1, False) == "brand=Toyota"
    assert clause(made, 5, 13, True) == "year>=2013" and clause(made, 5, 13, False) == "year<2013"
    assert made.fields[9].values[16] == "52500..55468" and clause(made, 9, 16, False) == "price<52500"
