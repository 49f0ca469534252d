"""What tests of sweeps on a cluster share: a tiny experiment, and waiting for jobs."""

from __future__ import annotations

import time

from unlearn_cli.sweep.cluster import with_jobs
from unlearn_cli.sweep.record import outcomes

TINY = [
    "world=tabular_tiny",
    "world.subjects=20",
    "world.relations=2",
    "world.objects=5",
    "world.grammar.templates=2",
    "world.grammar.heldout=1",
    "edit.n=4",
    "model.hidden_size=32",
    "model.heads=2",
    "model.mlp_size=64",
    "train.batch_size=20",
    "train.max_passes=75",
    "train.decay_passes=75",
    "train.matrix_lr=0.02",
    "train.min_recall=0.9",
    "metric=fact_accuracy",
    "logger=none",
]
SLURM = ["slurm=cluster", "slurm.cpus=1", "slurm.memory_gb=2"]
FAULTY = "plugins=[faulty_method]"


def until(folder, seconds, enough):
    """Wait until `enough(outcomes)`; the outcomes by label."""
    end = time.monotonic() + seconds
    while not enough(found := with_jobs(folder, outcomes(folder))):
        assert time.monotonic() < end, [(item.entry.label, item.state, item.error) for item in found]
        time.sleep(1)
    return {item.entry.label: item for item in found}


def ended(outcomes):
    """Whether nothing runs or waits any more."""
    return all(item.state not in ("running", "waiting") for item in outcomes)
