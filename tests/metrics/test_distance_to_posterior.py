"""Distance to what can still be said, by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from doubles import O, evaluation, from_probabilities, oracle, uniform, world

from unlearn_cli.metrics.distance_to_posterior import DistanceToPosterior

PROBES, OLD = world()
N = len(OLD)
FORGET = PROBES.splits["forget"]


def measure(edited, posterior, changed=False):
    split = replace(FORGET, posterior=posterior)
    asked = replace(PROBES.splits["edited"], answer=(FORGET.answer + 1) % O) if changed else split
    probes = replace(PROBES, splits={**PROBES.splits, "forget": split, "edited": asked})
    values = DistanceToPosterior().compute(evaluation(probes, base=oracle(OLD), edited=edited))
    return {name.split("/")[1]: value for name, value in values.items()}


def test_the_ideal_answer_has_no_distance():
    values = measure(uniform(N), np.full((len(FORGET.rows), O), 1 / O))
    assert values["kl"].edited.value == pytest.approx(0, abs=2e-6)
    assert values["tv"].edited.value == pytest.approx(0, abs=2e-6)


def test_a_model_that_still_knows_by_hand():
    values = measure(oracle(OLD, error=0.1), np.full((len(FORGET.rows), O), 1 / O))
    kl = 0.2 * math.log(0.2 / 0.9) + 0.8 * math.log(0.2 / 0.025)
    assert values["kl"].edited.value == values["kl"].base.value == pytest.approx(kl, abs=1e-5)
    assert values["tv"].edited.value == pytest.approx(0.7, abs=1e-5)
    assert values["kl"].direction == "lower"


def test_probability_outside_the_objects_counts():
    values = measure(uniform(N, mass=0.5), np.full((len(FORGET.rows), O), 1 / O))
    assert values["kl"].edited.value == pytest.approx(math.log(2), abs=1e-5)
    assert values["tv"].edited.value == pytest.approx(0.5, abs=1e-5)


def test_a_deducible_fact_is_to_be_known():
    known = np.eye(O)[FORGET.answer]
    assert measure(oracle(OLD, error=0.1), known)["kl"].edited.value == pytest.approx(-math.log(0.9), abs=1e-5)
    ruled_out = from_probabilities(np.where(np.eye(O)[OLD] > 0, 0.0, 1 / (O - 1)))
    value = measure(ruled_out, known)["kl"]
    assert (value.status, value.edited) == ("skipped", None)  # infinite


def test_a_request_that_names_new_objects_has_none():
    assert "names what is to be answered" in measure(uniform(N), None, changed=True)["kl"].reason


def test_of_real_text_there_is_none():
    assert "of real text nobody knows" in measure(uniform(N), None)["kl"].reason
