"""Splits are disjoint, complete, and ask what they say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn_cli.edits.collapse import Collapse
from unlearn_cli.edits.forget import Forget
from unlearn_cli.edits.minority import PromoteMinority, SuppressMinority
from unlearn_cli.edits.permute import Permute
from unlearn_cli.edits.refuse import Refuse, RefuseQA
from unlearn_cli.edits.remap import Remap
from unlearn_cli.edits.remap_same import RemapSame
from unlearn_cli.edits.restore import Restore
from unlearn_cli.neighbourhood import MUST_NOT_CHANGE, PARTS, neighbourhoods, retain_pool
from unlearn_cli.splits import ProbeSizes, build_probes
from unlearn_cli.streams import generator
from unlearn_cli.worlds.correlation import Correlated, partners
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.grammar import Grammar
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.tabular import Dissent, Nested, Questions, Tabular

SIZES = {"subjects": 80, "relations": 3, "objects": 12, "holdout_subjects": 6}
RECIPES = {
    "tabular": Tabular(**SIZES),
    "nested": Tabular(**SIZES, nested=Nested(objects=4)),
    "correlated": Tabular(**SIZES, correlated=Correlated(enabled=True, strength=0.7)),
    "correlated and nested": Tabular(
        **SIZES, correlated=Correlated(enabled=True, strength=0.7), nested=Nested(objects=3), object_tokens=2
    ),
    "dissent": Tabular(**SIZES, dissent=Dissent(facts=0.3)),
    "questions": Tabular(**SIZES, questions=Questions(share=0.2)),
    "inverted": Tabular(**SIZES, grammar=Grammar(kind="inverted")),
}
WORLDS = {name: recipe.build(0) for name, recipe in RECIPES.items()}
WORLD, NESTED = WORLDS["tabular"], WORLDS["nested"]
GENERAL = [
    Forget(n=10),
    Forget(what="subjects", n=7),
    Forget(n=None, share=1.0, relation=1),
    Remap(n=5),
    Remap(n=30, distinct=False, relation=2),
    RemapSame(n=3),
    Collapse(),
    Permute(n=12),
    Refuse(n=10),
    Restore(n=10),
]
CASES = [
    *((world, edit) for world in WORLDS for edit in GENERAL),
    *(
        (world, replace(edit, edge=edge, propagate=propagate))
        for world in ("nested", "correlated and nested")
        for edit in (Forget(n=6), Remap(n=6, distinct=False), Permute(n=12), Restore(n=6))
        for edge in ("so", "sn", "on")
        for propagate in ("closure", "isolate")
    ),
    *(("dissent", edit) for edit in (PromoteMinority(n=9), SuppressMinority(n=9))),
    *(("questions", edit) for edit in (RefuseQA(n=9), Forget(n=9, phrasing="question"))),
    ("questions", Forget(n=9, phrasing="new_question")),
]


def resolve(world, edit, seed=0):
    return edit.resolve(WORLDS[world], generator(seed, "edit"))


@pytest.mark.parametrize(("world", "edit"), CASES)
def test_neighbourhoods_partition_the_world(world, edit):
    request = resolve(world, edit)
    parts = neighbourhoods(WORLDS[world], request)
    assert tuple(parts) == tuple(PARTS)
    everything = np.concatenate(list(parts.values()))
    assert np.sort(everything).tolist() == list(range(len(WORLDS[world].facts)))
    assert sorted([*parts["edited"], *parts["edited_heldout"]]) == request.facts.tolist()


def test_neighbourhoods_by_hand():
    facts = WORLD.facts
    relation0 = np.flatnonzero((facts.relation == 0) & (facts.exposure > 0))
    edited = relation0[0]
    old = facts.object[edited]
    new = (old + 1) % 12
    parts = neighbourhoods(WORLD, EditRequest("remap", np.array([edited]), np.array([new])))
    others = relation0[1:]
    assert parts["same_subject"].tolist() == [edited + 1, edited + 2]
    assert parts["same_value_old"].tolist() == others[facts.object[others] == old].tolist()
    assert parts["same_value_new"].tolist() == others[facts.object[others] == new].tolist()
    assert parts["same_relation"].tolist() == others[~np.isin(facts.object[others], [old, new])].tolist()
    assert (facts.relation[parts["unrelated"]] != 0).all()


def test_an_object_that_is_old_for_one_fact_and_new_for_another_counts_as_old():
    facts = WORLD.facts
    rows = np.flatnonzero((facts.relation == 0) & (facts.exposure > 0))
    first, second = rows[0], rows[np.flatnonzero(facts.object[rows] != facts.object[rows[0]])[0]]
    pair = np.array([first, second])
    parts = neighbourhoods(WORLD, EditRequest("permute", pair, facts.object[pair[::-1]]))
    assert len(parts["same_value_new"]) == 0
    assert np.isin(facts.object[parts["same_value_old"]], facts.object[pair]).all()


def nested_remap(edge="so", propagate="closure"):
    """Remap subject 0's relation 0 to an object with another nested value, and what lies around it."""
    nesting, facts = NESTED.nesting.value[0], NESTED.facts
    n = len(facts.subject[NESTED.relations.edge[facts.relation] == "so"])
    so, sn = 0, n
    assert facts.parents[sn].tolist()[0] == so
    old = facts.object[so]
    new = int(np.flatnonzero(nesting != nesting[old])[0])
    requested, target = {"so": (so, new), "sn": (sn, nesting[new])}[edge]
    request = EditRequest("remap", np.array([requested]), np.array([target]), propagate=propagate)
    on = [
        int(np.flatnonzero((facts.relation == 6) & (facts.subject == NESTED.relations.entity(0, o)))[0])
        for o in (old, new)
    ]
    return request, so, sn, on, nesting[old], nesting[new]


@pytest.mark.parametrize("propagate", ["closure", "isolate"])
def test_dependents_of_a_nested_remap_by_hand(propagate):
    request, _, sn, on, old, new = nested_remap(propagate=propagate)
    parts = neighbourhoods(NESTED, request)
    assert parts["dep_change"].tolist() == [sn]
    assert sorted(on) == parts["bridge"].tolist()
    assert len(parts["dep_keep"]) == 0
    probes = build_probes(NESTED, request, np.empty(0, dtype=np.int64), ProbeSizes(50, 2))
    assert set(probes.splits["dep_change"].answer) == {new if propagate == "closure" else old}
    assert set(probes.splits["dep_change_closure"].answer) == {new}
    assert set(probes.splits["dep_change_isolate"].answer) == {old}
    higher = {name: probes.splits[f"dep_change_{name}"].direction for name in ("closure", "isolate")}
    assert higher[propagate] == "higher" and set(higher.values()) == {"higher", "descriptive"}


def test_a_derived_fact_that_is_edited_keeps_its_parents():
    request, so, sn, _, _, _ = nested_remap(edge="sn")
    parts = neighbourhoods(NESTED, request)
    assert so in parts["dep_keep"] and len(parts["dep_change"]) == 0
    after = NESTED.apply(request).facts
    assert after.object[sn] == request.new_object[0]
    assert after.object[so] == NESTED.facts.object[so]


def test_dependents_of_a_nested_forget():
    request = EditRequest("forget", np.array([0]))
    probes = build_probes(NESTED, request, np.empty(0, dtype=np.int64), ProbeSizes(50, 2))
    assert probes.splits["dep_change"].direction == "to_gold"
    assert "names no new object" in probes.splits["dep_change_closure"].reason
    kept = build_probes(NESTED, replace(request, propagate="isolate"), np.empty(0, dtype=np.int64), ProbeSizes(50, 2))
    assert kept.splits["dep_change"].direction == "higher"


def test_correlated_partners():
    world = WORLDS["correlated"]
    request = resolve("correlated", Remap(n=5))
    partner = np.sort(partners(world.facts, world.correlation)[request.facts])
    parts = neighbourhoods(world, request)
    assert parts["correlated_partner"].tolist() == partner.tolist()
    probes = build_probes(world, request, np.empty(0, dtype=np.int64), ProbeSizes(50, 2))
    converted = probes.splits["correlated_partner_converted"]
    new = dict(zip(partners(world.facts, world.correlation)[request.facts], request.new_object, strict=True))
    asked = probes.fact[converted.rows]
    assert converted.answer.tolist() == [new[fact] for fact in asked]
    assert (converted.answer != world.facts.object[asked]).all()


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0, 1), case=st.sampled_from(CASES))
def test_retain_pool_never_holds_a_requested_subject_or_a_fact_that_changes(share, case):
    world = WORLDS[case[0]]
    request = resolve(*case)
    pool = retain_pool(world, request, share, requested_subjects=False)
    assert not np.isin(world.facts.subject[pool], world.facts.subject[request.facts]).any()
    assert (world.facts.exposure[pool] > 0).all()
    after = world.closure(request).facts
    assert (after.object[pool] == world.facts.object[pool]).all() and (after.exposure[pool] > 0).all()
    parts = neighbourhoods(world, request)
    keep = np.concatenate([parts[name] for name in MUST_NOT_CHANGE])
    others = ~np.isin(world.facts.subject[keep], world.facts.subject[request.facts])
    assert len(pool) == min(round(share * len(keep)), others.sum())


def test_full_pool_with_requested_subjects_leaves_nothing_unseen():
    request = resolve("tabular", Forget(n=10))
    pool = retain_pool(WORLD, request, 1.0, requested_subjects=True)
    probes = build_probes(WORLD, request, pool, ProbeSizes(300, 2))
    assert len(pool) == 230
    assert all(not len(split.rows) for name, split in probes.splits.items() if name.endswith("/unseen"))
    assert "outside the retain pool" in probes.splits["unrelated/unseen"].reason


@pytest.mark.parametrize(("world", "edit"), CASES)
def test_probes_are_asked_once_and_scored_on_the_right_object(world, edit):
    data, request = WORLDS[world], resolve(world, edit)
    pool = retain_pool(data, request, 0.3, requested_subjects=False)
    probes = build_probes(data, request, pool, ProbeSizes(facts=15, templates=3, requested=8))
    pairs = probes.fact * 100 + probes.template
    assert len(np.unique(pairs)) == len(probes)
    new, old = data.facts.object.copy(), data.facts.object.copy()
    old[request.facts] = data.old_objects(request)
    new[request.facts] = old[request.facts] if request.new_object is None else request.new_object
    for name, split in probes.splits.items():
        facts = probes.fact[split.rows]
        assert bool(len(split.rows)) == (split.reason is None)
        if name.startswith("edited") and name != "edited_stated":
            assert (split.answer == new[facts]).all()
        elif not name.startswith(("dep_change", "correlated_partner_converted")):
            assert (split.answer == old[facts]).all()
        if split.must_not_change and len(split.rows):
            assert np.isin(facts, pool).all() if name.endswith("/seen") else not np.isin(facts, pool).any()
            assert len(np.unique(facts)) <= 15
            assert not np.isin(facts, request.facts).any()
    asked = probes.splits["edited"].rows
    shown_in = data.phrased(request.phrasing).language.asked
    assert len(asked) == len(shown_in) * min(8, request.visible.sum())
    assert set(probes.template[asked]) == set(shown_in)
    assert not np.isin(probes.template[probes.splits["edited_para"].rows], shown_in).any()


def test_what_grammars_and_questions_add():
    inverted = build_probes(WORLDS["inverted"], resolve("inverted", Remap(n=5)), np.empty(0, int), ProbeSizes(9, 2))
    assert set(inverted.template[inverted.splits["edited_order"].rows]) == {3}
    assert inverted.splits["edited_para"].reason == "this world's grammar holds no template out"
    asked = build_probes(WORLDS["questions"], resolve("questions", Remap(n=5)), np.empty(0, int), ProbeSizes(9, 2))
    question = WORLDS["questions"].language.question
    assert set(asked.template[asked.splits["edited_qa"].rows]) == {question}
    assert build_probes(WORLD, resolve("tabular", Remap(n=5)), np.empty(0, int), ProbeSizes(9, 2)).splits[
        "edited_qa"
    ].reason == "training in this world asks no questions"  # fmt: skip


def test_a_refusal_of_questions_leaves_statements():
    world, request = WORLDS["questions"], resolve("questions", RefuseQA(n=9))
    probes = build_probes(world, request, np.empty(0, int), ProbeSizes(9, 2))
    assert set(probes.splits["edited"].answer) == {REFUSAL}
    stated = probes.splits["edited_stated"]
    assert stated.direction == "higher"
    assert (stated.answer == world.facts.object[probes.fact[stated.rows]]).all()
    assert "statements stay" in probes.splits["edited_para"].reason
    others = probes.splits["same_relation/unseen"].rows
    assert world.language.question in probes.template[others]  # questions on other facts must still be answered


def test_the_posterior_of_a_forgotten_fact_is_with_its_probes():
    request = resolve("tabular", Forget(n=4))
    probes = build_probes(WORLD, request, np.empty(0, int), ProbeSizes(9, 2))
    assert np.allclose(probes.splits["forget"].posterior, 1 / 12)
    assert probes.splits["edited"].posterior is None
    changed = build_probes(WORLD, resolve("tabular", Remap(n=4)), np.empty(0, int), ProbeSizes(9, 2))
    assert changed.splits["forget"].posterior is None
