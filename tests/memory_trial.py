"""What a stage takes, measured in a process of its own: `python memory_trial.py KIND HIDDEN LAYERS [gib]`.

Prints the growth of the resident size at its highest, and the estimate. With a limit the process may take that much
more address space than it has, and its run is a whole one.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from experiments import quick

import unlearn_cli.editing
import unlearn_cli.training.fit
from unlearn_cli import builders
from unlearn_cli.builders import Watch
from unlearn_cli.edits.forget import Forget
from unlearn_cli.footprint import footprint
from unlearn_cli.methods.npo import NPO
from unlearn_cli.models import checkpoint
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.pipeline import run
from unlearn_cli.study import Study
from unlearn_cli.training.recipe import Train
from unlearn_cli.worlds.grammar import Grammar
from unlearn_cli.worlds.tabular import Tabular

PAGE = resource.getpagesize()
ROWS = 160


def experiment(folder, hidden, layers):
    """A few steps on large batches."""
    grammar = Grammar(templates=2, heldout=1, fillers=8)
    recipe = {"matrix_lr": 1e-4, "lr": 1e-4, "max_passes": 0.3, "min_recall": 0.0, "check_every": 100}
    return quick(
        folder,
        world=Tabular(subjects=200, relations=4, objects=20, holdout_subjects=20, grammar=grammar),
        edit=Forget(n=ROWS),
        model=GPTNeoX(hidden_size=hidden, layers=layers, heads=4, mlp_size=4 * hidden),
        train=Train(batch_size=ROWS, decay_passes=75.0, optimizer="adamw", **recipe),
        method=NPO(steps=3, retain_batch=ROWS),
    )


def stored_base(study, folder):
    """A checkpoint that another process writes."""
    if (child := os.fork()) == 0:
        model = study.experiment.model.build(study.world.vocabulary.size, study.world.max_length, 0)
        checkpoint.save(model, study.world.vocabulary, folder)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return folder


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def highest():
    """The most that it ever had."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main():
    """Carry out one stage."""
    kind, hidden, layers, *limit = sys.argv[1:]
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    made = experiment(folder, int(hidden), int(layers))
    if limit:
        own = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
        most = own + int(float(limit[0]) * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        print(json.dumps(run(made, folder / "run").error))
        return
    study, out = Study.of(made), folder / "out"
    out.mkdir()
    base = stored_base(study, folder / "base") if kind == "edit" else None
    expected, before = footprint(study, kind).total, resident()
    Path("/proc/self/clear_refs").write_text("5")  # the highest size is counted from here
    runtime = Watch().runtime(kind, study, out)
    if kind == "edit":
        builders._edit(study, unlearn_cli.editing.Given(base), runtime, out)
    else:
        builders._train(study, study.world, ("base",), runtime, out)
    print(json.dumps({"measured": highest() - before, "expected": expected}))


if __name__ == "__main__":
    main()
