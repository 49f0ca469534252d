"""A sweep in W&B, read back from its offline files and compared with what the run folders say."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
from pathlib import Path
from statistics import fmean

import pytest
import tiny_words
import yaml
from wandb_file import read_tracked

from unlearn_cli import machine
from unlearn_cli.cli import config_dir, main
from unlearn_cli.results import Result
from unlearn_cli.sweep import tracked
from unlearn_cli.tracking import Logger

QUICK = [*tiny_words.TINY, "method=npo", "metric=fact_accuracy", "trainer.progress=false"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder for runs and their cache, where nothing of the machine's user counts and runs are made in here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB_SERVICE"]:
            patch.delenv(name)
        folder = tmp_path_factory.mktemp("tracked")
        patch.setenv("NETRC", "/nonexistent")
        patch.setenv("WANDB_CONFIG_DIR", "/nonexistent")
        patch.setenv("UNLEARN_CACHE", str(folder / "cache"))
        patch.setenv("UNLEARN_RUNS", str(folder / "runs"))
        patch.setattr(machine, "cores", lambda: 1)
        handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
        yield folder
        logging.getLogger().handlers[:] = handlers  # Hydra puts its own in their place
        logging.getLogger().setLevel(level)


@pytest.fixture(scope="module")
def sweep(place):
    """Two settings on two seeds."""
    folder = place / "grid"
    assert main(["-m", *QUICK, "method.steps=5,20", "seed=0,1", f"hydra.sweep.dir={folder}"]) == 0
    return folder


def shown(folder: Path, name: str) -> list[dict]:
    """The rows of a logged table."""
    (path,) = folder.glob(f"wandb/offline-run-*/files/media/table/{name}_*.table.json")
    stored = json.loads(path.read_text())
    return [dict(zip(stored["columns"], row, strict=True)) for row in stored["data"]]


def test_each_run_has_the_sweep_as_its_group_and_says_what_its_result_says(sweep):
    ids = set()
    for folder in sorted(path.parent for path in sweep.glob("*/result.json")):
        result, logged = Result.read(folder / "result.json"), read_tracked(folder)
        assert (logged.run.run_group, logged.run.job_type, logged.run.display_name) == ("grid", "run", folder.name)
        assert sorted(logged.run.tags) == sorted({"tabular_tiny", "forget", "tiny", "npo"})
        digests = {name: result.stages[name]["digest"] for name in ("train", "edit", "evaluate")}
        golds = [member["digest"] for member in result.stages["gold"]["members"]]
        assert logged.config["digests"] == digests | {"gold": golds}
        assert logged.config["commit"] == result.provenance["commit"]
        assert logged.config["seed"] == result.seed
        assert {key: logged.summary[key] for key in result.flat()} == result.flat()
        ids.add(logged.run.run_id)
    assert len(ids) == 4


def test_the_sweeps_own_run_has_the_tables_and_the_figure(sweep):
    logged = read_tracked(sweep)
    assert (logged.run.run_group, logged.run.job_type, logged.run.display_name) == ("grid", "sweep", "grid")
    assert (logged.summary["runs"], logged.summary["runs/ok"], logged.exit_code) == (4, 4, 0)
    assert len(list(sweep.glob("wandb/offline-run-*/files/media/images/trade-off-0_*.png"))) == 1

    runs = {row["run"]: row for row in shown(sweep, "runs")}
    with (sweep / "sweep.csv").open() as file:
        tidy = list(csv.DictReader(file))
    compared = 0
    for row in tidy:
        key = "/".join(filter(None, (row["metric"], row["split"])))
        for suffix, column in (("", "value"), ("/base", "base"), ("/gold", "gold")):
            stored = runs[row["run"]].get(key + suffix)
            assert stored == (float(row[column]) if row[column] else None)
            compared += stored is not None
        assert runs[row["run"]]["edit_digest"] == row["edit_digest"]
    assert len(runs) == 4 and compared > 100

    forget = [float(row["value"]) for row in tidy if (row["metric"], row["split"]) == ("fact_accuracy", "forget")]
    means = {row["setting"]: row for row in shown(sweep, "settings")}
    assert list(means) == ["method.steps=5", "method.steps=20"]
    assert [row["fact_accuracy/forget"] for row in means.values()] == [fmean(forget[:2]), fmean(forget[2:])]
    assert [row["ok"] for row in means.values()] == [2, 2]


def test_an_experiments_name_is_the_group(sweep, place):
    assert main([*QUICK, "name=mine", "seed=0", f"hydra.run.dir={place}/named"]) == 0
    assert read_tracked(place / "named").run.run_group == "mine"


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """What a W&B agent sets before it calls the program."""
    params = tmp_path / "params.yaml"
    params.write_text("wandb_version: 1\nmethod.steps:\n  value: 5\n")
    for name, value in zip(tracked.OF_AGENT, ("sweep123", "agents-run", str(params)), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_PROJECT", "agents-project")
    import wandb

    wandb.teardown()  # which has read the environment
    yield
    wandb.teardown()


def test_a_run_of_an_agent_is_the_one_that_it_asked_for(sweep, agent, tmp_path, capfd):
    capfd.readouterr()
    assert main([*QUICK, "method.steps=5", "seed=0", "name=searched", f"hydra.run.dir={tmp_path}/one"]) == 0
    assert "gnoring" not in "".join(capfd.readouterr())
    logged = read_tracked(tmp_path / "one")
    run = logged.run
    assert (run.run_id, run.sweep_id, run.project, run.run_group) == (
        "agents-run",
        "sweep123",
        "agents-project",
        "searched",
    )
    assert logged.config["method.steps"] == 5
    assert (
        logged.summary["fact_accuracy/forget"]
        == Result.read(tmp_path / "one" / "result.json").flat()["fact_accuracy/forget"]
    )


def test_a_sweep_of_an_agent_is_its_run_and_no_run_of_the_sweep_is(sweep, agent, tmp_path):
    folder = tmp_path / "seeds"
    assert main(["-m", *QUICK, "method.steps=5", "seed=0,1", f"hydra.sweep.dir={folder}"]) == 0
    results = {path.parent: Result.read(path).flat() for path in sorted(folder.glob("*/result.json"))}
    runs = [read_tracked(run).run for run in results]
    assert len({run.run_id for run in runs} | {"agents-run"}) == 3 and not any(run.sweep_id for run in runs)
    logged = read_tracked(folder)
    assert (logged.run.run_id, logged.run.sweep_id) == ("agents-run", "sweep123")
    key = "fact_accuracy/retain/unseen"
    assert logged.summary[key] == fmean(values[key] for values in results.values())


@pytest.mark.parametrize(
    "wanted", [{"method.lr": 3.1e-05, "method.beta": 0.25}, {"method.lr": 0.001, "method.beta": 5}]
)
def test_the_command_of_the_shipped_search_is_one_that_unlearn_takes(place, wanted, capsys):
    from wandb.sdk.launch.sweeps import utils

    content = yaml.safe_load((config_dir() / "wandb_sweep.yaml").read_text())
    fixed = {name: item["value"] for name, item in content["parameters"].items() if "value" in item}
    assert content["parameters"].keys() == fixed.keys() | wanted.keys()
    for name, value in wanted.items():
        assert content["parameters"][name]["min"] <= value <= content["parameters"][name]["max"]
    given = utils.create_sweep_command_args({"args": {k: {"value": v} for k, v in (fixed | wanted).items()}})
    words = [w for word in utils.create_sweep_command(content["command"]) for w in given.get(word[2:-1], [word])]
    assert words[:2] == ["${env}", "${program}"] and content["program"] == "unlearn"
    assert main([*words[2:], "dry_run=true"]) == 0
    assert "train" in capsys.readouterr().out


def test_the_searched_number_is_among_those_of_a_default_run():
    wanted = yaml.safe_load((config_dir() / "wandb_sweep.yaml").read_text())["metric"]["name"]
    core = yaml.safe_load((config_dir() / "metric" / "core.yaml").read_text())["defaults"]
    assert wanted == "gap_average/mean" and "gap_average" in core


def test_without_matplotlib_there_are_tables_and_one_line(sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tracked.importlib.util, "find_spec", lambda name: None)
    folder = tmp_path / "again"
    assert main(["-m", *QUICK, "method.steps=5,20", "seed=0", f"hydra.sweep.dir={folder}"]) == 0
    assert capsys.readouterr().err.count("W&B gets no figures of the sweep: pip install 'unlearn-cli[figures]'") == 1
    assert len(shown(folder, "runs")) == 2 and not list(folder.rglob("*.png"))


def test_a_detached_sweep_is_logged_when_it_is_first_seen_to_have_ended(sweep, tmp_path):
    folder = tmp_path / "detached"
    shutil.copytree(sweep, folder, symlinks=True, ignore=shutil.ignore_patterns("wandb"))
    assert main(["status", str(folder)]) == 0
    assert not (folder / "wandb").exists()  # one of this machine is logged by its own command
    orders = {"flags": [], "conf": str(config_dir()), "stages": {}, "waits": {}, "restarts": 0}
    (folder / "orders.json").write_text(json.dumps(orders))
    result = next(folder.glob("*/result.json"))
    kept = result.read_bytes()
    result.unlink()
    assert main(["status", str(folder)]) == 1
    assert not (folder / "wandb").exists()  # it still runs
    result.write_bytes(kept)
    for _ in range(2):
        assert main(["status", str(folder)]) == 0
    assert read_tracked(folder).run.job_type == "sweep"  # once


def test_two_open_runs_of_one_process_are_apart(place, tmp_path):
    trackers = {}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        trackers[name] = Logger(kind="wandb").open({}, tmp_path / name, name, None, [])
    for step in range(3):
        for name, tracker in trackers.items():
            tracker.curve("edit", [{"step": float(step), "loss": float(ord(name))}])
    for name, tracker in trackers.items():
        tracker.metrics({"x": float(ord(name))})
        tracker.close("ok")
    for name in trackers:
        logged = read_tracked(tmp_path / name)
        assert [row["edit/loss"] for row in logged.history] == [ord(name)] * 3
        assert logged.summary["x"] == ord(name)


def test_a_missing_key_is_told_once_for_all_runs_of_a_process(place, tmp_path, caplog, monkeypatch):
    import wandb

    monkeypatch.setattr("unlearn_cli.tracking._warned", set())
    wandb.teardown()
    with caplog.at_level(logging.INFO):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            Logger(kind="wandb", mode="online").open({}, tmp_path / name, name, None, []).close("ok")
    told = [record for record in caplog.records if "W&B is tracked offline" in record.message]
    assert [record.levelno for record in told] == [logging.WARNING, logging.INFO]
    assert all(list((tmp_path / name).glob("wandb/offline-run-*")) for name in ("a", "b"))
