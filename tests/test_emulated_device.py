"""The whole pipeline on a device that is not the CPU, and that no machine needs to have (emulated/device.py).

Each run is carried out there and on the CPU: what mixes devices fails, and the numbers must be the same.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import text_samples
from subprocess_env import ENVIRONMENT
from tiny_words import TINY
from transformers import AutoModelForCausalLM

from unlearn_cli.cli import config_dir
from unlearn_cli.models.spread import blocks_of, parts
from unlearn_cli.yaml_docs import groups

HERE = Path(__file__).parent
QUIET = [
    "trainer.accelerator=cpu",
    "trainer.precision=fp32",
    "trainer.side_by_side=false",
    "trainer.progress=false",
    "logger=none",
]
SMALL = [*TINY, "world.holdout_subjects=3", *QUIET]
FORGET, REMAP = ["edit=forget", "edit.n=4"], ["edit=remap", "edit.n=2"]
METHODS = [name for name in groups([config_dir()])["method"] if name != "checkpoint"]  # that is somebody else's model
ELSEWHERE = {"influence"}  # torch.func's products see through the emulation
TOLERANCE = 0.03  # absolute, of a share: attention is computed by another kernel, and training amplifies rounding
MOVES = re.compile("seconds|memory")  # what is measured, not computed


def carried_out(place, folder, runs):
    """What came of runs, given by their words, there or on the CPU."""
    command = [sys.executable, HERE / "emulated" / "work.py", place, folder / place]
    made = subprocess.run(
        command, input=json.dumps(runs), env=ENVIRONMENT, capture_output=True, text=True, timeout=1200
    )
    assert made.returncode == 0, made.stderr[-3000:]
    return [json.loads(line) for line in made.stdout.splitlines() if line.startswith("{")]


def same_on_both(folder, runs):
    """Carry out runs on both and compare all that their metrics say."""
    for words, there, here in zip(
        runs, carried_out("gpu", folder, runs), carried_out("cpu", folder, runs), strict=True
    ):
        assert there["status"] == here["status"] == "ok", (words, there["error"], here["error"])
        assert there["metrics"].keys() == here["metrics"].keys()
        for name, (status, value) in here["metrics"].items():
            assert there["metrics"][name][0] == status
            if status == "ok" and not MOVES.search(name):
                assert there["metrics"][name][1] == pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE), (words, name)


def few_steps(method):
    """Enough to have every line of a method's step carried out."""
    shipped = (config_dir() / "method" / f"{method}.yaml").read_text()
    return ["method.steps=2"] if "\nsteps:" in shipped and "\nrounds:" not in shipped else []


def asked(method, *words):
    edit = REMAP if method.startswith(("ft", "rome", "memit")) else FORGET
    return [*SMALL, f"method={method}", *few_steps(method), *edit, "metric=[fact_accuracy,answer_probability]", *words]


def test_the_emulation_has_the_rules_of_a_gpu():
    command = [sys.executable, HERE / "emulated" / "rules.py"]
    told = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert told.stdout == "held\n", told.stderr


def test_methods_of_every_kind_give_the_numbers_of_the_cpu(tmp_path):
    """A loss with its reference, states inside, weights in one shot, an editor, a guard."""
    same_on_both(tmp_path, [asked(name) for name in ("npo", "rmu", "ssd", "rome", "grace")])


def own_text(folder):
    """A checkpoint, and the words of a run on it."""
    model, files = text_samples.checkpoint(folder / "model"), text_samples.facts(folder)
    words = ["world=qa", *(f"world.{name}={path}" for name, path in files.items()), f"model.path={model}", *QUIET]
    return model, [*words, "method=npo", "method.steps=2", "metric=[core,tofu]"]


def test_checkpoints_and_own_text_give_the_numbers_of_the_cpu(tmp_path):
    _, words = own_text(tmp_path)
    same_on_both(tmp_path, [words, [*words, "method/adapter=lora"]])


def test_a_model_on_two_devices_gives_the_numbers_of_the_cpu(tmp_path):
    model, words = own_text(tmp_path)
    network = AutoModelForCausalLM.from_pretrained(model)
    assert "cpu" in parts(network, blocks_of(network), ["gpu", "cpu"])  # what is outside the blocks is on the other
    same_on_both(tmp_path, [[*words, "model.device_map=auto"]])


def test_what_gpus_train_in_trains(tmp_path):
    """States, teachers and logits in bf16, weights in fp32: no operation may ask for one type of both."""
    runs = [asked(name, "method/adapter=lora") for name in ("npo", "undial")] + [asked("rmu"), asked("scrub")]
    found = carried_out("autocast", tmp_path, runs)
    assert [made["status"] for made in found] == ["ok"] * len(runs)
    (plain,) = carried_out("cpu", tmp_path, runs[:1])
    name = "answer_probability/forget"
    assert (
        plain["metrics"][name][1] != found[0]["metrics"][name][1] == pytest.approx(plain["metrics"][name][1], abs=0.1)
    )


@pytest.mark.slow
def test_every_method_trains_in_what_gpus_train_in(tmp_path):
    found = carried_out("autocast", tmp_path, [asked(name) for name in METHODS])
    assert [made["error"] for made in found if made["status"] != "ok"] == []


@pytest.mark.slow
def test_every_method_gives_the_numbers_of_the_cpu(tmp_path):
    same_on_both(tmp_path, [asked(name) for name in METHODS if name not in ELSEWHERE])


@pytest.mark.slow
@pytest.mark.parametrize("edit", [FORGET, REMAP])
def test_every_metric_runs(tmp_path, edit):
    (found,) = carried_out("gpu", tmp_path, [[*SMALL, "method=npo", "method.steps=5", *edit, "metric=all"]])
    assert found["status"] == "ok", found["error"]
