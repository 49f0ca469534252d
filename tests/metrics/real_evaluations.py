"""What metrics read, of real models: two experiments that take a minute, each evaluated by every metric it allows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from every_metric import STEMS, metric
from experiments import quick

from unlearn_cli.edits.forget import Forget
from unlearn_cli.edits.restore import Restore
from unlearn_cli.metrics import run as computing
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.pipeline import run
from unlearn_cli.worlds.exposure import Exposure
from unlearn_cli.worlds.tabular import Correlated, Nested

# Fields with which a metric has something to read in so small a world.
SMALL = {
    "rtt": {"folds": 2},
    "relearn_few_forget": {"n": 3},
    "output_validity": {"max_new_tokens": 6},
    "fewshot_same_subject": {"shots": 1},
    "u_lira": {"fpr": 0.2},
}


def forgetting(folder):
    """Facts are forgotten in a plain world, where some are stated more often."""
    start = quick(folder)
    world = replace(start.world, subjects=40, exposure=Exposure(kind="buckets", buckets=[8, 16, 24]))
    every = {stem: metric(stem, **SMALL.get(stem, {})) for stem in STEMS}
    train = replace(start.train, min_recall=0.8)  # of half of the facts, too
    return replace(start, world=world, edit=Forget(n=10), model=MODEL, train=train, metric=every)


def correcting(folder):
    """Corrupted facts are put right where facts follow from one another, and correlate; no shadows."""
    start = quick(folder)
    world = replace(
        start.world, subjects=60, relations=3, objects=6, nested=Nested(objects=2), correlated=Correlated(enabled=True)
    )
    metrics = {stem: metric(stem, **SMALL.get(stem, {})) for stem in STEMS}
    kept = {stem: found for stem, found in metrics.items() if not found.shadows}
    return replace(start, world=world, edit=Restore(n=8), model=MODEL, metric=kept)


MODEL = GPTNeoX(hidden_size=32, heads=2, mlp_size=64, max_positions=128)


def evaluated(experiment):
    """The Evaluation of a run, and every metric's values by its stem."""
    found = {}

    def computed(metrics, evaluation):
        found["evaluation"] = evaluation
        return real(metrics, evaluation)

    real = computing.compute_all
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(computing, "compute_all", computed)
        result = run(experiment)
    assert result.status == "ok", result.error
    return found["evaluation"], experiment.metric
