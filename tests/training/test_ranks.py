"""Several processes train what one does: same batches, same losses, same weights; and one that fails ends all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experiments import quick
from safetensors.torch import load_file
from subprocess_env import ENVIRONMENT
from transformers import AutoModelForCausalLM

from unlearn_cli import machine
from unlearn_cli.devices import device_problems
from unlearn_cli.errors import ConfigError, UnlearnError
from unlearn_cli.experiment import Experiment, Trainer
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.ft_l import FTL
from unlearn_cli.methods.mask import Mask
from unlearn_cli.methods.npo import NPO
from unlearn_cli.methods.opt_out import OptOut
from unlearn_cli.pipeline import run
from unlearn_cli.stages import base_stage
from unlearn_cli.study import Study
from unlearn_cli.sweep.slurm import Slurm
from unlearn_cli.training.launch import cause, commands
from unlearn_cli.training.messages import Failed

HERE = Path(__file__).resolve().parent
TWO = Trainer(accelerator="cpu", precision="fp32", side_by_side=False, progress=False, devices=2)


def differences(folder: Path, strategy: str, *names: str) -> dict[str, dict[str, Any]]:
    """Of two connected processes from one, for each named trial."""
    path = os.pathsep.join([str(HERE.parent), ENVIRONMENT["PYTHONPATH"]])
    environment = ENVIRONMENT | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    command = [sys.executable, str(HERE / "rank_trial.py"), str(folder)]
    ranks = [
        subprocess.Popen([*command, str(rank), strategy, *names], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    told = [rank.communicate(timeout=900)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(told)[-3000:]
    found: dict[str, dict[str, Any]] = json.loads((folder / "told.json").read_text())
    assert list(found) == list(names)
    return found


def check(found: dict[str, dict[str, Any]]) -> None:
    for name, item in found.items():
        assert item["counted"], name  # steps, tokens, recall and ledger
        assert item["curves"] < 1e-5, name  # losses, accuracy, recall
        assert item["weights"] < 5e-5, name  # a wrong factor of the gradient makes 2e-4, a wrong weighting 5e-3
        assert item["steps"] >= 2, name


def test_two_processes_train_what_one_does(tmp_path):
    found = differences(tmp_path, "ddp", "base", "base, all tokens", "npo", "npo, one fact", "rmu", "opt_out")
    check(found)
    assert found["base"]["weights"] < 1e-5 and found["npo"]["weights"] < 1e-5


@pytest.mark.slow
def test_so_they_do_with_whatever_reads_the_weights_or_draws_answers(tmp_path):
    names = [
        "base, one sentence",
        "npo, clipped",
        "npo, lora",
        "npo, masked",
        "npo, until forgotten",
        "llmu",
        "code_eraser",
    ]
    check(differences(tmp_path, "ddp", *names))


@pytest.mark.slow
def test_so_they_do_with_the_parameters_divided(tmp_path):
    names = ["base", "base, one sentence", "npo", "npo, one fact", "npo, clipped", "npo, lora", "rmu", "llmu"]
    check(differences(tmp_path, "fsdp", *names))


def ranks_of(process: int) -> dict[int, int]:
    """Process ids of the ranks that a process has started."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == process and b"unlearn_cli.training.rank" in words:
            found[int(words[3])] = int(entry.name)
    return found


def trained(folder: Path, strategy: str, **changes: Any) -> Experiment:
    """Two hundred steps of a base and an edit, saved as often as can be."""
    start = quick(folder, trainer=replace(TWO, checkpoint_seconds=0.05, strategy=strategy))
    recipe = replace(start.train, batch_size=21, max_passes=100.0, stop_recall=1.0, min_recall=0.0, check_every=1000)
    return replace(start, train=recipe, gold=replace(start.gold, n=0), metric={}, **changes)


def once_it_saves(folder: Path, act: Callable[[], None]) -> threading.Thread:
    """Call `act` when the base has left a state."""

    def wait() -> None:
        while not list(folder.rglob("*state.pt")):
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def weights(experiment: Experiment) -> dict[str, torch.Tensor]:
    (folder,) = (Path(experiment.paths.cache) / "train").glob("*-*")
    return load_file(folder / "model.safetensors")


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_whatever_ends_one_rank_ends_all_and_the_run_goes_on_where_it_was(tmp_path, strategy, caplog):
    whole, killed, stopped = (trained(tmp_path / name, strategy) for name in ("whole", "killed", "stopped"))
    first = run(whole)
    assert first.status == "ok", first.error
    network = AutoModelForCausalLM.from_pretrained(Path(first.stages["train"]["path"]))
    assert sum(p.numel() for p in network.parameters()) == 21120

    once_it_saves(tmp_path / "killed", lambda: os.kill(ranks_of(os.getpid())[1], signal.SIGKILL))
    result = run(killed)
    assert (result.status, result.exit_status) == ("failed", 1)
    said = "train: rank 1 of 2 was killed by SIGKILL (out of memory?); the others were stopped"
    assert result.error == {"stage": "train", "type": "UnlearnError", "message": said}
    assert json.loads((result.run_dir / "result.json").read_text())["error"]["message"] == said
    assert not ranks_of(os.getpid())
    left = [path.name for path in (tmp_path / "killed" / "cache" / "train").rglob("*") if path.is_file()]
    assert [name for name in left if "lock" not in name] == ["1-state.pt"], "nothing that looks like an artifact"

    once_it_saves(tmp_path / "stopped", lambda: os.kill(os.getpid(), signal.SIGINT))
    assert run(stopped).status == "interrupted"
    assert not ranks_of(os.getpid())

    caplog.set_level("INFO")
    for again in (killed, stopped):
        caplog.clear()
        assert run(again).status == "ok"
        assert "train: goes on at step" in caplog.text
        assert all(torch.equal(tensor, weights(again)[name]) for name, tensor in weights(whole).items())
        ledgers = [next(Path(one.paths.cache).rglob("ledger.npy")) for one in (again, whole)]
        assert np.array_equal(*map(np.load, ledgers))


@pytest.mark.slow
def test_an_error_of_all_ranks_is_told_once(tmp_path, caplog):
    start = trained(tmp_path, "ddp")
    result = run(replace(start, train=replace(start.train, max_passes=1.0, min_recall=0.9)))
    assert result.status == "failed"
    assert result.error["message"].startswith("train: recall is 0.")
    assert caplog.text.count("below train.min_recall=0.9") == 1


def test_one_device_has_the_digests_that_it_always_had():
    assert Numerics("cpu", 1, 1, "fp32").to_dict() == {
        "accelerator": "cpu",
        "devices": 1,
        "threads": 1,
        "precision": "fp32",
    }


def test_devices_nodes_and_strategy_are_part_of_a_digest(tmp_path):
    placed = [{}, {"devices": 2}, {"num_nodes": 2}, {"devices": 2, "strategy": "fsdp"}, {"devices": 3}]
    digests = [
        base_stage(Study.of(quick(tmp_path, trainer=Trainer(accelerator="cpu", **more)))).digest for more in placed
    ]
    assert len(set(digests)) == 5
    named = quick(tmp_path, trainer=Trainer(accelerator="cpu", devices=2, strategy="ddp"))
    assert base_stage(Study.of(named)).digest == digests[1], "auto is ddp"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"trainer": Trainer(accelerator="cpu", strategy="ddp")},
            "trainer.strategy: 'ddp' given; says how several devices",
        ),
        (
            {"trainer": Trainer(accelerator="mps", devices=2)},
            "trainer.devices: 2 given; trainer.accelerator=mps has one device",
        ),
        ({"method": OptOut()}, "trainer.strategy: 'fsdp' given; method=optout needs the whole model for its penalty"),
        ({"method": FTL()}, "method=ftl needs the whole model for its projection: 'ddp'"),
        ({"method": NPO(mask=Mask(kind="random"))}, "needs the whole model for mask.kind=random: 'ddp'"),
        ({"method": NPO(save_every=2)}, "needs the whole model for save_every=2: 'ddp'"),
    ],
)
def test_what_cannot_be_shared_is_refused(tmp_path, changes, problem):
    fsdp = Trainer(accelerator="cpu", devices=2, strategy="fsdp")
    with pytest.raises(ConfigError) as refused:
        quick(tmp_path, **({"trainer": fsdp} | changes)).check()
    assert any(problem in line for line in refused.value.problems), refused.value.problems


def test_methods_that_only_have_a_loss_can_be_divided(tmp_path):
    quick(tmp_path, trainer=Trainer(accelerator="cpu", devices=2, strategy="fsdp")).check()


def test_devices_that_are_not_there_are_told(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(machine, "has_cuda", lambda: True)
    here, job = Slurm(), Slurm(kind="sbatch", gpus=2, nodes=2)
    assert device_problems(Trainer(accelerator="cuda", devices=2), here) == []
    assert device_problems(Trainer(accelerator="cuda", devices=3), here) == [
        "trainer.devices: 3 given; this machine has 2 CUDA devices: 1 to 2"
    ]
    (line,) = device_problems(Trainer(accelerator="cpu", num_nodes=2), here)
    assert line.startswith("trainer.num_nodes: 2 given; nodes are those of a SLURM job")
    assert device_problems(Trainer(accelerator="cuda", devices=2, num_nodes=2), job) == []
    assert device_problems(Trainer(accelerator="auto", devices=4, num_nodes=1), job) == [
        "slurm.nodes: 2 given; trainer.num_nodes=1 needs as many: 1",
        "slurm.gpus: 2 given; trainer.devices=4 needs as many on each node: 4",
    ]
    monkeypatch.setattr(machine, "has_cuda", lambda: False)
    (line,) = device_problems(Trainer(accelerator="cuda"), here)
    assert line.startswith("trainer.accelerator: 'cuda' given; this machine has no CUDA device")
    assert device_problems(Trainer(accelerator="auto"), here) == []


def test_a_job_of_several_nodes_has_one_process_that_starts_the_ranks():
    options = Slurm(kind="sbatch", gpus=4, nodes=2).options()
    assert {"--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=4"} < set(options)
    assert not any(option.startswith("--gpus=") for option in options)


def test_ranks_are_started_here_or_by_srun(monkeypatch):
    assert [words[-1] for words in commands(Numerics("cpu", 3, 1, "fp32"))] == ["0", "1", "2"]
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UnlearnError, match=r"trainer\.num_nodes=2: nodes are those of a SLURM job, and this is none"):
        commands(Numerics("cpu", 3, 1, "fp32", nodes=2))
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    (words,) = commands(Numerics("cpu", 3, 1, "fp32", nodes=2))
    assert words[0] == "srun" and {"--nodes=2", "--ntasks=6", "--ntasks-per-node=3"} < set(words)
    assert words[-1] == "unlearn_cli.training.rank"  # its number is SLURM's


def test_of_many_failures_the_cause_is_told():
    lost = Failed(0, RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:1"), "Traceback ...")
    killed = Failed(1, None, "was killed by SIGKILL (out of memory?)")
    told = Failed(1, UnlearnError("train: the loss is nan at step 3"), "Traceback ...")
    bug = Failed(1, KeyError("x"), "Traceback ...")
    ended = Failed(0, None, "ended with status 1")
    said = "train: rank 1 of 2 was killed by SIGKILL (out of memory?); the others were stopped"
    assert str(cause([lost, killed], "train", 2)) == said
    assert cause([lost, told], "train", 2) is told.error
    assert cause([ended, lost, bug], "train", 2) is bug.error
    assert str(cause([ended], "gold", 2)) == "gold: rank 0 of 2 ended with status 1; the others were stopped"
