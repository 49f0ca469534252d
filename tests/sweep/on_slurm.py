"""What tests of sweeps on a cluster share: a tiny experiment, and waiting for jobs."""

from __future__ import annotations

import time

import tiny_words

from unlearn_cli.sweep.cluster import with_jobs
from unlearn_cli.sweep.record import outcomes

TINY = [*tiny_words.TINY, "metric=fact_accuracy", "logger=none"]
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
