"""Whether a run's devices are there: on this machine, or in the job that a cluster is asked for."""

from __future__ import annotations

import os

from unlearn_cli import machine
from unlearn_cli.experiment import Trainer
from unlearn_cli.sweep.slurm import Slurm


def device_problems(trainer: Trainer, slurm: Slurm) -> list[str]:
    """One line for each thing that does not fit; nothing here needs torch."""
    return _in_the_job(trainer, slurm) if slurm.kind == "sbatch" else _here(trainer)


def _in_the_job(trainer: Trainer, slurm: Slurm) -> list[str]:
    devices, nodes, problems = trainer.devices, trainer.num_nodes, []
    if slurm.nodes != nodes:
        problems.append(f"slurm.nodes: {slurm.nodes} given; trainer.num_nodes={nodes} needs as many: {nodes}")
    wanted = trainer.accelerator == "cuda" or (trainer.accelerator == "auto" and slurm.gpus > 0)
    if wanted and slurm.gpus < devices:
        problems.append(
            f"slurm.gpus: {slurm.gpus} given; trainer.devices={devices} needs as many on each node: {devices}"
        )
    return problems


def _here(trainer: Trainer) -> list[str]:
    problems = []
    if trainer.num_nodes > 1 and "SLURM_JOB_ID" not in os.environ:
        problems.append(
            f"trainer.num_nodes: {trainer.num_nodes} given; nodes are those of a SLURM job, and this is none:"
            f" slurm=cluster slurm.nodes={trainer.num_nodes}, or 1"
        )
    if trainer.accelerator == "cuda" and not machine.has_cuda():
        why = "this machine has no CUDA device, or torch is built without CUDA"
        return [*problems, f"trainer.accelerator: 'cuda' given; {why}: 'auto' or 'cpu'"]
    cuda = trainer.accelerator == "cuda" or (trainer.accelerator == "auto" and machine.has_cuda())
    cards = machine.cards() if cuda else None
    if cards and trainer.devices > cards:
        problems.append(
            f"trainer.devices: {trainer.devices} given; this machine has {cards} CUDA devices: 1 to {cards}"
        )
    return problems
