"""Every kind of edit on worlds of every combination of flags: splits are apart, and known responders score right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_responders import changes, score, sure, uniform
from world_strategies import tabulars

from unlearn_cli.edits.collapse import Collapse
from unlearn_cli.edits.forget import Forget
from unlearn_cli.edits.minority import PromoteMinority, SuppressMinority
from unlearn_cli.edits.permute import Permute
from unlearn_cli.edits.refuse import Refuse, RefuseQA
from unlearn_cli.edits.remap import Remap
from unlearn_cli.edits.remap_same import RemapSame
from unlearn_cli.edits.restore import Restore
from unlearn_cli.errors import ConfigError
from unlearn_cli.evaluation import ProbeSet
from unlearn_cli.metrics.answer_probability import AnswerProbability
from unlearn_cli.metrics.fact_accuracy import FactAccuracy
from unlearn_cli.neighbourhood import neighbourhoods, retain_pool
from unlearn_cli.splits import ProbeSizes, build_probes
from unlearn_cli.streams import generator
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.vocabulary import Ids

KINDS = [Forget, Remap, RemapSame, Collapse, Permute, Refuse, RefuseQA, PromoteMinority, SuppressMinority, Restore]


@st.composite
def settings_of_edits(draw: st.DrawFn) -> tuple[WorldData, EditRequest, ProbeSet, Ids]:
    """A world, a request that it offers, the probes and the retain pool."""
    world = draw(tabulars()).build(draw(st.integers(0, 3)))
    kind = draw(st.sampled_from(KINDS))
    fields: dict[str, Any] = {
        "propagate": draw(st.sampled_from(["closure", "isolate"])),
        "matched": draw(st.booleans()),
    }
    fields |= {"n": None, "share": draw(st.sampled_from([0.3, 1.0]))} if draw(st.booleans()) else {"share": None}
    fields |= {} if fields["share"] else {"n": draw(st.integers(1, 4))}
    if world.nesting is not None:
        fields["edge"] = draw(st.sampled_from(["so", "sn", "on"]))
    if kind in (Forget, Refuse, Remap):
        fields["relation"] = draw(st.sampled_from([None, 0]))
    if kind is Remap:
        fields["distinct"] = draw(st.booleans())
    try:
        request = kind(**fields).resolve(world, generator(0, "edit"))
    except ConfigError:
        assume(False)
    pool = retain_pool(world, request, draw(st.sampled_from([0.0, 0.4, 1.0])), draw(st.booleans()))
    return world, request, build_probes(world, request, pool, ProbeSizes(facts=6, templates=2, requested=5)), pool


@settings(deadline=None, max_examples=150)
@given(settings_of_edits())
def test_splits_are_apart(made):
    world, request, probes, pool = made
    parts = neighbourhoods(world, request)
    every = np.concatenate(list(parts.values()))
    assert np.sort(every).tolist() == list(range(len(world.facts)))
    assert sorted([*parts["edited"], *parts["edited_heldout"]]) == request.facts.tolist()
    pairs = list(zip(probes.fact.tolist(), probes.template.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    rows = [split.rows for split in probes.splits.values() if split.must_not_change]
    together = np.concatenate(rows)
    assert len(np.unique(together)) == len(together)
    for name, split in probes.splits.items():
        facts = probes.fact[split.rows]
        if split.must_not_change:
            assert not np.isin(facts, request.facts).any()
            assert np.isin(facts, pool).all() if name.endswith("/seen") else not np.isin(facts, pool).any()


@settings(deadline=None, max_examples=150)
@given(settings_of_edits())
def test_targets_are_other_objects_and_distinct_where_promised(made):
    world, request, _, _ = made
    if request.new_object is None or request.op in ("suppress_minority", "restore"):
        return
    old = world.facts.object[request.facts]
    assert (request.new_object != old).all()
    width = world.relations.objects[world.facts.relation[request.facts]]
    assert ((request.new_object == REFUSAL) | ((request.new_object >= 0) & (request.new_object < width))).all()
    assert (np.diff(request.facts) > 0).all()


@settings(deadline=None, max_examples=150)
@given(settings_of_edits())
def test_responders(made):
    world, request, probes, _ = made
    before = score(FactAccuracy(), probes, sure(world, probes))
    after = score(FactAccuracy(), probes, sure(world.apply(request), probes))
    for name in before:
        kept = probes.splits[name].must_not_change or name == "edited_stated"
        if kept:
            assert before[name] == 1, name
        if request.new_object is not None:
            if kept or name in ("edited", "edited_para", "edited_heldout", "edited_order", "dep_change"):
                assert after[name] == 1, name
            if changes(world, request) and name in ("edited", "edited_para", "edited_heldout", "dep_change_closure"):
                assert before[name] == 0, name
    guesses = score(AnswerProbability(), probes, uniform(world, probes))
    chance = 1 / world.relations.objects[world.facts.relation[probes.fact]]
    for name, value in guesses.items():
        split = probes.splits[name]
        expected = np.mean(np.where(split.answer == REFUSAL, 0.0, chance[split.rows]))
        assert value == pytest.approx(float(expected), rel=1e-5), name
