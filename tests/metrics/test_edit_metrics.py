"""ROME's comparisons of new and old object, by hand and on models that know, swap or forget."""

import math
from dataclasses import replace

import numpy as np
import pytest
from doubles import O, evaluation, from_probabilities, mixed, oracle, requested, uniform, world

from unlearn_cli.evaluation import Split
from unlearn_cli.metrics.edit_efficacy import EditEfficacy
from unlearn_cli.metrics.edit_generalization import EditGeneralization
from unlearn_cli.metrics.edit_locality import EditLocality
from unlearn_cli.metrics.edit_score import EditScore, harmonic_mean
from unlearn_cli.metrics.targets import FACTS
from unlearn_cli.worlds.facts import REFUSAL

PLAIN, OLD = world(remap=True)
# subjects 8 to 13 of the same relation; the doubles' requested facts hold objects 0 to 3, so do some of these
NEAR = PLAIN.splits["same_relation/unseen"].rows[np.isin(OLD[PLAIN.splits["same_relation/unseen"].rows], range(4))]
NEIGHBOURS = Split("same_value_old/unseen", NEAR, OLD[NEAR], "higher")
PROBES = replace(PLAIN, splits={**PLAIN.splits, "same_value_old/unseen": NEIGHBOURS})
RELATION = np.zeros(len(OLD), dtype=np.int64)
N = len(OLD)


def swapped(error=0.1):
    """The ideal edit: new objects on requested facts in every phrasing, old ones elsewhere."""
    wanted = OLD.copy()
    for name in ("edited", "edited_para"):
        wanted[PROBES.splits[name].rows] = PROBES.splits[name].answer
    return oracle(wanted, error)


def measured(metric, edited, probes=PROBES, relation=RELATION, **more):
    found = evaluation(probes, base=oracle(OLD), edited=edited, **more)
    arrays = {"relation": relation, "objects": np.full(N, O), "tokens": np.array([1])}
    return metric.compute(replace(found, observed={("edited", FACTS): (arrays,)}))


def value(metric, edited, key, **more):
    return measured(metric, edited, **more)[key].edited.value


@pytest.mark.parametrize(
    ("edited", "success", "magnitude"),
    [(swapped(), 1, 0.875), (oracle(OLD), 0, -0.875), (uniform(N), 0, 0)],  # 0.9 - 0.1 / 4; ties fail
)
@pytest.mark.parametrize("metric", [EditEfficacy(), EditGeneralization()])
def test_limit_cases_where_it_is_written_and_elsewhere(metric, edited, success, magnitude):
    name = "edit_efficacy" if isinstance(metric, EditEfficacy) else "edit_generalization"
    found = measured(metric, edited)
    assert found[f"{name}/success"].edited.value == success
    assert found[f"{name}/magnitude"].edited.value == pytest.approx(magnitude, abs=1e-6)
    assert found[f"{name}/success"].base.value == 0


def test_success_does_not_ask_for_the_argmax():
    """New 0.2, old 0.1, a third object 0.55: a success of magnitude 0.1."""
    rows = PROBES.splits["edited"].rows
    p = np.full((N, O), 0.075)
    p[np.arange(N), (OLD + 3) % O] = 0.55
    p[np.arange(N), OLD], p[np.arange(N), (OLD + 1) % O] = 0.1, 0.2
    model = mixed(oracle(OLD), from_probabilities(p), rows)
    assert value(EditEfficacy(), model, "edit_efficacy/success") == 1
    assert value(EditEfficacy(), model, "edit_efficacy/magnitude") == pytest.approx(0.1, abs=1e-6)
    assert value(EditGeneralization(), model, "edit_generalization/success") == 0


def test_answers_of_several_lengths_compare_by_their_tokens():
    """log P of the new object -6 on three tokens, of the old one -4 on one: -2 against -4 a token."""
    p = np.full((N, O), 1e-9)
    p[np.arange(N), OLD], p[np.arange(N), (OLD + 1) % O] = np.exp(-4), np.exp(-6)
    lengths = np.ones((N, O + 1), dtype=np.int64)
    lengths[np.arange(N), (OLD + 1) % O] = 3
    model = from_probabilities(p)
    for probes, success, magnitude in (
        (PROBES, 0, np.exp(-6) - np.exp(-4)),
        (replace(PROBES, lengths=lengths), 1, np.exp(-2) - np.exp(-4)),
    ):
        found = measured(EditEfficacy(), model, probes)
        assert found["edit_efficacy/success"].edited.value == success
        assert found["edit_efficacy/magnitude"].edited.value == pytest.approx(magnitude, abs=1e-6)
        near = measured(EditLocality(), model, probes)
        assert near["edit_locality/success"].edited.value == 1 - success


def test_neighbours_are_compared_with_what_replaced_their_object():
    found = measured(EditLocality(), swapped())
    assert found["edit_locality/success"].edited.value == 1
    assert found["edit_locality/magnitude"].edited.value == pytest.approx(0.875, abs=1e-6)
    assert found["edit_locality/success"].edited.n == len(NEAR)
    spilled = mixed(swapped(), oracle((OLD + 1) % O), NEAR[:4])
    assert value(EditLocality(), spilled, "edit_locality/success") == pytest.approx(1 - 4 / len(NEAR))
    third = mixed(swapped(), oracle((OLD + 2) % O), NEAR)  # lost for a third object: both have 0.025, a tie
    assert value(EditLocality(), third, "edit_locality/magnitude") == pytest.approx(0, abs=1e-6)


def test_another_relations_target_does_not_count():
    """Half of the requested facts are of relation 1: their objects' neighbours of relation 0 are left out."""
    relation = RELATION.copy()
    subjects = PROBES.subject[PROBES.splits["forget"].rows]
    relation[PROBES.splits["forget"].rows[subjects >= 2]] = 1
    found = measured(EditLocality(), swapped(), relation=relation)["edit_locality/success"]
    assert found.edited.n == np.isin(OLD[NEAR], (0, 1)).sum()


def test_agreement_and_drift_by_hand():
    """Base 0.9 on the right object, 0.025 on each other; the edited model uniform."""
    same = measured(EditLocality(), oracle(OLD))
    assert same["edit_locality/agree/retain"].edited.value == 1
    assert same["edit_locality/drift/retain"].edited.value == pytest.approx(0, abs=1e-9)
    rows = PROBES.splits["unrelated/unseen"].rows
    found = measured(EditLocality(), mixed(oracle(OLD), uniform(N), rows))
    drift = 0.9 * math.log(0.9 / 0.2) + 0.1 * math.log(0.025 / 0.2)
    assert found["edit_locality/drift/unrelated/unseen"].edited.value == pytest.approx(drift, abs=1e-5)
    assert found["edit_locality/agree/unrelated/unseen"].edited.value == np.mean(OLD[rows] == 0)
    assert found["edit_locality/agree/same_relation/unseen"].edited.value == 1


def test_harmonic_mean():
    assert harmonic_mean(np.array([1, 1, 0.5])) == pytest.approx(0.75)
    assert harmonic_mean(np.array([[1, 0, 1], [0.5, 0.5, 0.5]])).tolist() == [0, 0.5]
    assert np.isnan(harmonic_mean(np.array([1, np.nan])))


def test_score_and_its_interval():
    assert value(EditScore(), swapped(), "edit_score") == 1
    assert value(EditScore(), oracle(OLD), "edit_score") == 0
    rows = requested(PROBES)
    half = mixed(swapped(), oracle(OLD), rows[np.isin(PROBES.subject[rows], (0, 1))])  # two of four subjects missed
    found = measured(EditScore(), half)["edit_score"]
    assert found.edited.value == pytest.approx(3 / (2 + 2 + 1))
    assert found.edited.ci[0] == 0  # some resamples hold neither of the two others
    assert found.base.value == 0


def test_what_nobody_knew_is_compared_with_nothing():
    forget = PROBES.splits["forget"]
    first = PROBES.fact[forget.rows] == PROBES.fact[forget.rows[0]]
    unknown = replace(forget, answer=np.where(first, REFUSAL, forget.answer))
    probes = replace(PROBES, splits={**PROBES.splits, "forget": unknown})
    for metric in (EditEfficacy(), EditGeneralization(), EditLocality()):
        name, found = metric.__class__.__name__, measured(metric, swapped(), probes)
        compared = [value for key, value in found.items() if key.endswith(("success", "magnitude"))]
        assert [value.reason for value in compared] == ["of a requested fact nobody knows the old object"] * 2, name
        others = [key for key, value in found.items() if value not in compared and value.edited is not None]
        assert bool(others) == isinstance(metric, EditLocality)


def test_without_targets_or_relations_it_is_skipped():
    plain, _ = world()
    for metric in (EditEfficacy(), EditGeneralization(), EditScore()):
        reasons = {found.reason for found in metric.compute(evaluation(plain, edited=oracle(OLD))).values()}
        assert reasons == {"the request names no new object"}
    found = EditScore().compute(evaluation(PROBES, base=oracle(OLD), edited=swapped()))["edit_score"]
    assert found.status == "skipped" and "relations" in found.reason
