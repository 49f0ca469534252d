"""What must hold of every metric of conf/metric, on what it reads of real models.

The universal invariants: a model in the place of another reads as that one (U1, U2); neither the order of the probes
nor asking each of them twice changes anything (U3, U5); reading changes nothing (U7); there is never a NaN.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from every_metric import STEMS
from real_evaluations import correcting, evaluated, forgetting
from rearranged import doubled, permuted, with_models

from unlearn_cli.metrics.run import compute_all

pytestmark = pytest.mark.slow

# Without a value in either experiment, and why; each has tests of its own on models that give it one.
UNREAD = {
    "fewshot_1": "the base reads no context: it is trained on single sentences",
    "fewshot_5": "the base reads no context",
    "fewshot_10": "the base reads no context",
    "in_context": "the base reads no context",
    "paraphrase_prefix": "the base reads no context",
    "paraphrase_reordered": "this grammar has no order that is never trained",
    "pando_field_f1": "these worlds have no rules",
    "pando_heldout_accuracy": "these worlds have no rules",
    "pando_signal": "these worlds have no rules",
    "ripple": "no fact that follows from a requested one changes with it",
    "text_perplexity": "needs a file with a text",
}
# What an invariant does not hold for, and why.
NO_MODEL_OF_ITS_OWN = {"activation_patching": "is not taken of the base"}
TOLERANT = {"mia_quantile": "its linear program is solved to rounding, and a score may lie on the quantile"}
ONCE = {
    "cka": "is unbiased for a sample of different items, and copies of one are not",
    "rmia": "compares each sentence with the others of the population, and its copy is one of them",
}


def guarded(evaluation):
    """The evaluation with arrays that cannot be written to."""
    for found in evaluation.observed.values():
        for arrays in found:
            for array in arrays.values() if isinstance(arrays, dict) else ():
                array.setflags(write=False)
    for models in evaluation.predictions.values():
        for model in models:
            for name in ("candidate_logps", "greedy", "refusal_logps"):
                getattr(model, name).setflags(write=False)
    return replace(evaluation, bootstrap=replace(evaluation.bootstrap, samples=100))


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Two evaluations told in every way, with the metrics of each."""
    found = []
    for experiment in (forgetting, correcting):
        evaluation, metrics = evaluated(experiment(tmp_path_factory.mktemp(experiment.__name__)))
        ways = {
            "plain": guarded(evaluation),
            "permuted": permuted(guarded(evaluation), seed=1),
            "doubled": doubled(guarded(evaluation)),
            "noop": with_models(guarded(evaluation), edited="base"),
            "retrained": with_models(guarded(evaluation), edited="gold"),
        }
        found.append((ways, metrics))
    return found


def values(cases, stem, way):
    """The metric's values in each experiment that has it."""
    return [compute_all({stem: metrics[stem]}, ways[way]) for ways, metrics in cases if stem in metrics]


def numbers(value):
    """What each role's reading is, with and without its number of items."""
    return {role: getattr(value, role) for role in ("edited", "base", "gold")}


def close(a, b, tolerance=1e-9):
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


@pytest.mark.parametrize("stem", STEMS)
def test_it_has_a_value_and_never_a_nan(stem, cases):
    found = [value for run in values(cases, stem, "plain") for value in run.values()]
    assert any(value.status == "ok" for value in found) == (stem not in UNREAD)
    for value in found:
        assert value.status in ("ok", "skipped"), value.reason
        assert (value.edited is None) == (value.status == "skipped")
        assert value.status == "ok" or value.reason
        for reading in filter(None, numbers(value).values()):
            assert math.isfinite(reading.value)
            assert reading.n > 0
            assert reading.ci is None or -math.inf < reading.ci[0] <= reading.ci[1] < math.inf


@pytest.mark.parametrize("way", ["noop", "retrained"])
@pytest.mark.parametrize("stem", STEMS)
def test_a_model_in_the_place_of_another_reads_as_that_one(stem, way, cases):
    role = "base" if way == "noop" else "gold"
    for run in values(cases, stem, way):
        for key, value in run.items():
            assert value.status != "failed", value.reason
            theirs = getattr(value, role)
            if value.edited and theirs and not (way == "noop" and stem in NO_MODEL_OF_ITS_OWN):
                assert close(value.edited.value, theirs.value), key
            if value.edited and way == "retrained" and key.endswith("excess"):
                assert close(value.edited.value, 0), key


@pytest.mark.parametrize("stem", STEMS)
def test_the_order_of_probes_does_not_matter(stem, cases):
    tolerance = 1e-3 if stem in TOLERANT else 1e-9
    for plain, other in zip(values(cases, stem, "plain"), values(cases, stem, "permuted"), strict=True):
        assert plain.keys() == other.keys()
        for key, value in plain.items():
            assert value.status == other[key].status, key
            for mine, theirs in zip(numbers(value).values(), numbers(other[key]).values(), strict=True):
                assert (mine is None) == (theirs is None), key
                assert mine is None or (mine.n == theirs.n and close(mine.value, theirs.value, tolerance)), key


@pytest.mark.parametrize("stem", [stem for stem in STEMS if stem not in ONCE])
def test_asking_twice_changes_no_value(stem, cases):
    tolerance = 1e-3 if stem in TOLERANT else 1e-9
    for plain, other in zip(values(cases, stem, "plain"), values(cases, stem, "doubled"), strict=True):
        assert plain.keys() == other.keys()
        for key, value in plain.items():
            for mine, theirs in zip(numbers(value).values(), numbers(other[key]).values(), strict=True):
                assert mine is None or theirs is None or close(mine.value, theirs.value, tolerance), key


def state(ways):
    """Of the models on disk, and of what surrounds the computation."""
    digest = hashlib.sha256()
    for folders in ways["plain"].checkpoints.values():
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                digest.update(path.read_bytes() if path.is_file() else b"")
    name, numbers, *rest = np.random.get_state()
    drawn = (torch.get_rng_state().tolist(), name, numbers.tolist(), rest, random.getstate())
    return digest.hexdigest(), drawn, torch.is_grad_enabled(), torch.get_default_dtype()


def test_reading_changes_nothing(cases):
    """Arrays are read-only here: a metric that writes to one has failed above."""
    for ways, metrics in cases:
        before = state(ways)
        compute_all(metrics, ways["plain"])
        assert state(ways) == before
