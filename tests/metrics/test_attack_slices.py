"""What an attack may know: it picks and learns on facts that it is not scored on, and says what it gives away."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from doubles import amnesiac, evaluation, oracle, uniform, world
from every_metric import STEMS, class_of, metric
from experiments import quick
from small_models import neox

from unlearn_cli.edits.forget import Forget
from unlearn_cli.metrics.attack import AttackMetric
from unlearn_cli.metrics.linear_probe import LinearProbe
from unlearn_cli.metrics.steering import Steering
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.observations.attacked import arrays, overlap
from unlearn_cli.observations.base import Unobservable
from unlearn_cli.observations.split_retrained import SplitRetrained
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study
from unlearn_cli.worlds.facts import NONE
from unlearn_cli.worlds.tabular import Nested, Tabular

UNSEEN_HERE = {"paraphrase_reordered", "step_by_step_implied"}  # this world has no such templates, and is not nested
ATTACKS = {stem: metric(stem).attack for stem in STEMS if issubclass(class_of(stem), AttackMetric)}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    start = quick(
        tmp_path_factory.mktemp("slices"),
        edit=Forget(n=20),
        model=GPTNeoX(hidden_size=32, heads=2, mlp_size=64, max_positions=256),
    )
    many = replace(start.world, subjects=60, relations=4)
    return Study.of(replace(start, world=many))


def lied_about(scene, facts):
    """The scene in which other objects of these facts are the true ones."""
    table = scene.world.facts
    objects = table.object.copy()
    objects[facts] = (objects[facts] + 1) % scene.world.objects
    return replace(scene, world=replace(scene.world, facts=replace(table, object=objects)))


def scored_facts(observation, scene, rows):
    """Requested facts on which the attack is scored, and which no part of it may depend on."""
    if isinstance(observation, SplitRetrained):  # each fold is scored by a model that is taught the others
        return observation._folds(scene)[1][1]
    return np.intersect1d(scene.probes.fact[rows], scene.request.facts)


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_depends_on_what_it_is_scored_on(name, study):
    """Were the true objects others, the attacked model would answer the same: nothing was fitted or picked by them."""
    observation, model = ATTACKS[name], neox(study)
    scene = replace(scene_of(study), beside={"base": neox(study, seed=1)})

    def observed(scene):
        beside = {role: copy.deepcopy(other) for role, other in scene.beside.items()}
        return observation.observe(copy.deepcopy(model), replace(scene, beside=beside))

    if name in UNSEEN_HERE:
        with pytest.raises(Unobservable):
            observed(scene)
        return
    found = observed(scene)
    facts = scored_facts(observation, scene, found["rows"])
    assert len(facts) >= 4
    other = observed(lied_about(scene, facts))
    mine = np.isin(scene.probes.fact[found["rows"]], facts)
    assert mine.any()
    np.testing.assert_array_equal(found["rows"], other["rows"])
    np.testing.assert_array_equal(found["candidate_logps"][:, mine], other["candidate_logps"][:, mine])
    assert not found.get("overlap", np.zeros(1)).any()  # facts of this world say nothing of one another


def test_lying_about_what_an_attack_learns_from_changes_it(study):
    """The other way round, so that the test above can fail."""
    scene = scene_of(study)
    observation = ATTACKS["embedding_attack"]
    found = observation.observe(neox(study), scene)
    tune = np.setdiff1d(scene.request.facts, scene.probes.fact[found["rows"]])
    assert len(tune) == 6  # 0.3 of 20
    other = observation.observe(neox(study), lied_about(scene, tune))
    assert np.abs(found["loss"] - other["loss"]).max() > 1e-3


# -- overlap: what follows from what the attack was told


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    start = quick(tmp_path_factory.mktemp("nested"))
    return Tabular(
        subjects=20, relations=2, objects=4, holdout_subjects=3, nested=Nested(objects=2), grammar=start.world.grammar
    ).build(0)


def asked(made, *facts):
    """A scene that asks and requests these facts."""
    facts = np.array(facts)
    return SimpleNamespace(
        world=made, request=SimpleNamespace(facts=facts, old_object=None), probes=SimpleNamespace(fact=facts)
    )


def by(made, edge, **columns):
    """Facts of an edge whose columns have these values."""
    table = made.facts
    found = made.relations.edge[table.relation] == edge
    for name, value in columns.items():
        found &= getattr(table, name) == value
    return np.flatnonzero(found)


def test_what_follows_from_what_by_hand(nested):
    """A subject has one of four objects, two objects share each of two nested values."""
    table = nested.facts
    inherited = int(by(nested, "sn")[0])
    direct, value = table.parents[inherited]  # (s, r, o) and (o, r, n)
    scene, row = asked(nested, inherited, direct), np.arange(2)

    def told(*facts):
        return overlap(scene, row, np.array(facts, dtype=np.int64)).tolist()

    assert told() == [False, False]
    assert told(direct) == [False, True]  # itself; not what the object nests in
    assert told(direct, value) == [True, True]  # both premises
    assert told(value) == [False, False]
    every = by(nested, "on", relation=table.relation[value])
    assert len(every) == 4
    assert told(inherited, *every) == [True, False]  # two objects have that nested value
    twin = [f for f in every if f != value and table.object[f] == table.object[value]]
    assert len(twin) == 1


def test_a_prompt_gives_away_what_stands_before_it_and_no_other(nested):
    inherited = by(nested, "sn")[:3]
    scene = asked(nested, *inherited)
    told = nested.facts.parents[inherited].copy()
    told[1] = told[0]  # of someone else
    told[2, 1] = NONE
    assert overlap(scene, np.arange(3), told).tolist() == [
        True,
        nested.facts.parents[inherited[1]].tolist() == told[0].tolist(),
        False,
    ]


def test_only_requested_facts_are_given_away(nested):
    scene = asked(nested, 0, 1)
    scene.request.facts = np.array([1])
    assert overlap(scene, np.arange(2), np.array([0, 1])).tolist() == [False, True]


PROBES, OLD = world()
ROWS = np.sort(np.concatenate([s.rows for n, s in PROBES.splits.items() if n == "forget" or "unseen" in n]))


def test_the_share_that_is_given_away_by_hand():
    """Two of eight probes."""
    steering = Steering()
    blank = uniform(len(OLD))
    after = replace(blank, candidate_logps=blank.candidate_logps[ROWS], greedy=blank.greedy[ROWS])
    follows = np.isin(ROWS, PROBES.splits["forget"].rows[:2])
    start = evaluation(PROBES, oracle(OLD), amnesiac(PROBES, OLD), (blank,))

    def value(**more):
        left = arrays(ROWS, [after], **more)
        seen = {(role, steering.attack): (left,) for role in ("base", "edited", "gold")}
        return steering.compute(replace(start, observed=seen)).get("steering_means/overlap")

    assert value(overlap=follows).edited.value == pytest.approx(0.25)
    assert value(overlap=follows).edited.n == 8
    assert value(overlap=follows & False).edited.value == 0
    assert value() is None  # an attack that is told nothing


def test_what_a_probe_can_do_is_read_behind_the_block_that_its_tune_slice_picks():
    """Objects are written behind block 1 for the tune slice and behind block 2 for the rest: block 1 is picked."""
    rng, objects = np.random.default_rng(0), np.random.default_rng(1).integers(0, 5, 400)
    tune = PROBES.subject[ROWS] % 3 == 0

    def written(labels, where):
        states = rng.normal(size=(3, len(labels), 12)).astype(np.float32)
        for layer in (1, 2):
            states[layer, :, :5] += (8 * np.eye(5)[labels] * where[layer][:, None]).astype(np.float32)
        return states

    always = np.ones(400)
    seen = {
        "rows": ROWS,
        "relation": np.zeros(len(ROWS), dtype=np.int64),
        "tune": tune,
        "train_relation": np.zeros(400, dtype=np.int64),
        "train_object": objects,
        "train_control": rng.permutation(objects),
        "end": written(OLD[ROWS], {1: tune, 2: ~tune}),
        "train_end": written(objects, {1: always, 2: always}),
    }
    probe = LinearProbe()
    start = evaluation(PROBES, oracle(OLD), oracle(OLD))
    values = probe.compute(replace(start, observed={("edited", probe.states): (seen,)}))
    found = values["linear_probe/retain"].edited
    assert found.n == int((~tune & ~np.isin(ROWS, PROBES.splits["forget"].rows)).sum())
    assert found.value < 0.5
    assert values["linear_probe/layer_2"].edited.value == 1
