"""What must hold of every metric that reads answers only: order of probes, equal models, and never a NaN.

Metrics that read more than answers are held to the same in test_metric_invariances_real.py.
"""

import math

import numpy as np
import pytest
from doubles import O, cost, evaluation, from_probabilities, predictions, world
from every_metric import STEMS, metric
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn_cli.evaluation import ProbeSet, Split


def reads_answers_only(found):
    return not (found.observations or found.reads_weights or found.shadows)


METRICS = {stem: found for stem in STEMS if reads_answers_only(found := metric(stem))} | {
    "split_report of all": metric("split_report", known_only=False),
    "phrasing_generalization of less": metric("phrasing_generalization", min_before=0.1),
}


NO_DIFFERENCE = ("distance_to_gold", "gap_average", "split_report", "negative_flips/lost", "negative_flips/gained")
COUNTED = ("s", "bytes", "steps", "flop", "weights")
RANGES = {
    "share": (0, 1),
    "probability": (0, 1),
    "kappa": (-1, 1),
    "rank of O": (1, O),
    "reciprocal": (1 / O, 1),
    "nats": (0, math.inf),
    "ratio": (-9, 9),
} | dict.fromkeys(COUNTED, (0, math.inf))
SIGNED = (  # differences
    "split_report",
    "phrasing_generalization/form_bias",
    "answer_margin",
    "edit_efficacy/magnitude",
    "edit_generalization/magnitude",
)


def guesser(seed):
    """Right in two cases of three, otherwise anything; sometimes no object at all."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(O), len(OLD)) * rng.uniform(0.5, 1, (len(OLD), 1))
    knows = rng.random(len(OLD)) < 2 / 3
    p[knows] = 0.1 * p[knows] + 0.85 * np.eye(O)[OLD[knows]]
    found = from_probabilities(p)
    return predictions(found.candidate_logps, np.where(rng.random(len(OLD)) < 0.1, -1, found.greedy))


PROBES, OLD = world()
MODELS = [guesser(seed) for seed in range(4)]


def everything(probes, base, edited, *gold):
    models = evaluation(probes, base=base, edited=edited, gold=gold, samples=40, costs={"edited": (cost(),)})
    return {(stem, key): value for stem, found in METRICS.items() for key, value in found.compute(models).items()}


def readings(values):
    return {key: [value.edited, value.base, value.gold, value.reason] for key, value in values.items()}


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 1000))
def test_order_of_probes_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(OLD))  # new row i holds old row order[i]
    place = np.argsort(order)
    splits = {}
    for name, split in PROBES.splits.items():
        shuffle = rng.permutation(len(split.rows))
        splits[name] = Split(name, place[split.rows][shuffle], split.answer[shuffle], split.direction, split.reason)
    columns = [getattr(PROBES, name)[order] for name in ("fact", "template", "subject")]
    shuffled = [predictions(model.candidate_logps[order], model.greedy[order]) for model in MODELS]
    assert readings(everything(ProbeSet(*columns, O, splits), *shuffled)) == readings(everything(PROBES, *MODELS))


def test_equal_models_have_no_difference():
    same = everything(PROBES, MODELS[0], MODELS[0], MODELS[0], MODELS[0])
    for (_, key), value in same.items():
        if value.edited and (key.startswith(NO_DIFFERENCE) or key.endswith("form_bias")):
            assert value.edited.value == pytest.approx(0, abs=1e-12), key
        if key.startswith("gold_agreement"):
            assert value.edited.value == pytest.approx(1), key
        if value.status == "ok" and value.base and value.gold and not key.endswith("/mean"):
            assert value.edited.value == value.base.value == value.gold.value, key


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000), st.booleans())
def test_never_a_nan_and_intervals_hold_their_place(seed, remap):
    probes, _ = world(remap)
    for key, value in everything(probes, *(guesser(seed + i) for i in range(4))).items():
        assert (value.edited is None) == (value.status == "skipped"), key
        assert value.status == "ok" or value.reason, key
        for reading in filter(None, (value.edited, value.base, value.gold)):
            assert math.isfinite(reading.value), key
            assert reading.n > 0, key
            assert reading.ci is None or -math.inf < reading.ci[0] <= reading.ci[1] < math.inf, key


def test_ranges():
    for (_, key), value in everything(PROBES, *MODELS).items():
        if value.edited:
            low, high = RANGES[value.unit]  # a new unit: say its range
            assert (-high if key.startswith(SIGNED) else low) <= value.edited.value <= high, key
    assert all(
        value.edited.value <= math.log(2)
        for (_, key), value in everything(PROBES, *MODELS).items()
        if key.startswith("distance_to_gold/js")
    )
