"""`unlearn search`: what is proposed is run on every seed, a trial is worth its mean, and mistakes are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest
import tiny_words
from subprocess_env import ENVIRONMENT

from unlearn_cli.results import Result

QUICK = [
    *tiny_words.TINY,
    "method=npo",
    "metric=[fact_accuracy,answer_probability]",
    "trainer.progress=false",
    "sweep.parallel=1",
    "logger=none",
]
KEY, GRADED = "fact_accuracy/forget", "answer_probability/forget"
FAKE = ["logger=none", "seed=0"]


def recorded(folder: Path) -> list[dict]:
    return json.loads((folder / "search.json").read_text())["trials"]


def test_a_search_finds_the_best_of_what_it_ran_and_the_same_command_goes_on(tmp_path):
    def search(trials: int, name: str) -> tuple[list[str], list[dict]]:
        words = ["search", "--minimize", GRADED, "--trials", str(trials), "--at-once", "2", *QUICK]
        words += ["method.steps=int(interval(1,40))", "method.lr=tag(log,interval(1e-4,1e-2))", "seed=0,1"]
        environment = ENVIRONMENT | {"UNLEARN_CACHE": str(tmp_path / "cache")}
        command = [sys.executable, "-m", "unlearn_cli", *words, f"hydra.sweep.dir={tmp_path / name}"]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr
        return told.stdout.splitlines(), recorded(tmp_path / name)

    out, trials = search(2, "first")
    results = [[Result.read(tmp_path / "first" / place / "result.json") for place in t["folders"]] for t in trials]
    assert [[result.seed for result in members] for members in results] == [[0, 1]] * 2
    for trial, members in zip(trials, results, strict=True):
        assert trial["values"] == [fmean(member.flat()[GRADED] for member in members)]
        assert 1 <= trial["settings"]["method.steps"] <= 40 and 1e-4 <= trial["settings"]["method.lr"] <= 1e-2
    best = min(trials, key=lambda trial: trial["values"])
    assert out[0] == GRADED and out[-1] == str(tmp_path / "first")
    assert out[1].startswith(f"trial {best['number']}: {best['values'][0]:.4g}  method.steps=")

    again = search(3, "second")[1]
    assert len({trial["values"][0] for trial in again}) == 3
    assert [(t["settings"], t["values"]) for t in again[:2]] == [(t["settings"], t["values"]) for t in trials]
    for trial in again[:2]:
        for place in trial["folders"]:
            stages = Result.read(tmp_path / "second" / place / "result.json").stages
            assert all(stage["cached"] for stage in stages.values())


def test_a_trial_that_cannot_run_costs_itself_alone(unlearn, tmp_path):
    words = ["method=npo,ft", "--trials", "4", f"hydra.sweep.dir={tmp_path / 's'}"]  # ft wants new objects
    ended = unlearn("search", "--minimize", KEY, *FAKE, *words)
    trials = recorded(tmp_path / "s")
    kinds = {trial["settings"]["method"]: (trial["values"], trial["error"]) for trial in trials}
    assert ended.status == 1 and len(trials) == 4
    assert kinds["npo"] == ([0.04], None)
    assert kinds["ft"][0] == [] and "method" in kinds["ft"][1]
    assert "failed: " in ended.err and ended.out.splitlines()[-1] == str(tmp_path / "s")


def test_several_metrics_give_the_front(unlearn, tmp_path):
    place = f"hydra.sweep.dir={tmp_path / 's'}"
    metrics = ["--minimize", KEY, "--maximize", "fact_accuracy/retain/unseen/gold"]
    ended = unlearn("search", *metrics, "--trials", "2", *FAKE, "method.steps=20,30", place)
    assert (ended.status, ended.out.splitlines()[0]) == (0, f"{KEY} fact_accuracy/retain/unseen/gold")
    assert [trial["values"] for trial in recorded(tmp_path / "s")] == [[0.04, 0.998]] * 2


def test_a_failing_run_makes_its_trial_fail(unlearn, tmp_path):
    words = ["seed=1,2", "name='odd seeds fail'", "method.steps=20,30", f"hydra.sweep.dir={tmp_path / 's'}"]
    ended = unlearn("search", "--minimize", KEY, "--trials", "2", "logger=none", *words)
    assert ended.status == 1
    assert [(t["values"], t["error"]) for t in recorded(tmp_path / "s")] == [([], "failed: as told")] * 2


def test_a_metric_that_is_not_there_is_told_after_the_first_batch(unlearn, tmp_path):
    words = ["--trials", "9", "--at-once", "1", "method.steps=20,30", f"hydra.sweep.dir={tmp_path / 's'}"]
    ended = unlearn("search", "--maximize", "fact_accuracy/forgett", *FAKE, *words)
    assert ended.status == 1
    assert "--maximize fact_accuracy/forgett: no such name; did you mean fact_accuracy/forget?" in ended.err
    assert len(list((tmp_path / "s").rglob("result.json"))) == 1


def test_a_skipped_metric_makes_its_trial_fail_and_says_why(unlearn, tmp_path):
    words = ["--trials", "1", "method.steps=20,30", f"hydra.sweep.dir={tmp_path / 's'}"]
    assert unlearn("search", "--maximize", "fact_accuracy/dep_keep", *FAKE, *words).status == 1
    (trial,) = recorded(tmp_path / "s")
    assert trial["error"] == "fact_accuracy/dep_keep: no fact of this world follows from another"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--minimize", KEY, "seed=0,1"], "nothing to search: give a field several values"),
        (["method.steps=20,30"], "--minimize, --maximize: nothing given; expected a metric"),
        (["--minimize", KEY, "--trials", "0", "method.steps=20,30"], "--trials: 0 given; expected a number >= 1"),
        (["--minimize", KEY, "--maximize", KEY, "method.steps=20,30"], f"--maximize: {KEY} given; it is minimized too"),
        (["--minimize", KEY, "method.lr=interval(3,1)"], "method.lr=interval(3,1): `low <= high` must hold"),
        (["--minimize", KEY, "method.stepps=20,30"], "method.stepps: no such name; did you mean steps?"),
        (["--minimize", KEY, "method.steps=interval(1,9)"], "method.steps"),
        (["--minimize", KEY, "--trails", "3", "method.steps=20,30"], "--trails: no such flag"),
        (["--minimize", KEY, "method.steps=20,30", "hydra/launcher=x"], "Could not find 'hydra/launcher/x'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(unlearn, tmp_path, words, problem):
    ended = unlearn("search", *words, "logger=none")
    assert ended.status == 2
    assert any(problem in line for line in ended.problems), ended.err
    assert os.listdir(tmp_path) == []


def test_without_optuna_it_says_what_to_install(unlearn, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    ended = unlearn("search", "--minimize", KEY, "method.steps=20,30")
    assert (ended.status, ended.problems) == (2, ["unlearn search needs Optuna: pip install 'unlearn-cli[search]'"])
