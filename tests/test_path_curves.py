"""The script that asks the models along an edit's path, on a run from the command line."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from subprocess_env import ENVIRONMENT

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "path_curves.py"
TINY = [
    "world=tabular_tiny", "world.subjects=20", "world.relations=2", "world.objects=5", "world.holdout_subjects=3",
    "edit.n=4", "model=tiny", "train=tiny", "train.min_recall=0.5", "logger=none", "metric=[fact_accuracy,answer_rank]",
    "method.steps=6", "method.lr=3e-3", "method.save_every=2", "method.retain_batch=8",
    "trainer.accelerator=cpu", "trainer.precision=fp32", "trainer.side_by_side=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("path_curves", SCRIPT)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("path")


def unlearned(folder, *more):
    """The folder of a finished run."""
    words = [*TINY, f"paths.cache={folder / 'cache'}", f"paths.runs={folder / 'runs'}", *more]
    command = [sys.executable, "-m", "unlearn_cli", *words]
    told = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    return Path(told.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def finished(folder):
    return unlearned(folder)


def table(place):
    with (place / "path.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_model_of_the_path_is_asked_the_runs_probes(script, finished, capsys):
    place = finished
    assert script.main(place) == 0
    assert capsys.readouterr().out.splitlines() == [str(place / "path.csv"), str(place / "path.svg")]
    rows, metrics = table(place), json.loads((place / "result.json").read_text())["metrics"]
    assert [(row["model"], row["step"]) for row in rows] == [
        ("base", "0"), ("path", "2"), ("path", "4"), ("path", "6"), ("gold", ""),
    ]  # fmt: skip
    keys = [key for key in rows[0] if "/" in key]
    assert "answer_rank/forget" in keys and "fact_accuracy/retain/unseen" in keys
    for key in keys:
        stored = metrics[key]
        for row, value in ((rows[0], stored["base"]), (rows[3], stored), (rows[4], stored["gold"])):
            assert float(row[key]) == pytest.approx(value["value"], abs=1e-6), (key, row["model"])
    assert len({row["answer_rank/forget"] for row in rows[:4]}) > 1  # it is a path


def test_the_drawing_has_every_model_where_it_belongs(script):
    across, up = "fact_accuracy/forget", "fact_accuracy/retain/unseen"
    rows = [
        {"model": model, "step": step, across: forget, up: kept}
        for model, step, forget, kept in (("base", 0, 1.0, 1.0), ("path", 5, 0.5, 0.75), ("gold", None, 0.0, 1.0))
    ]
    picture = ElementTree.fromstring(script.drawing(rows, across, up))
    name = "{http://www.w3.org/2000/svg}"
    line = picture.find(f"{name}polyline").get("points")
    left, right, top, bottom = script.MARGIN, script.MARGIN + script.SIZE, script.MARGIN, script.MARGIN + script.SIZE
    assert line == f"{right:.1f},{top:.1f} {(left + right) / 2:.1f},{bottom - 0.75 * script.SIZE:.1f}"
    assert len(picture.findall(f"{name}circle")) == 2
    assert {"base", "5", "gold", across, up} <= {text.text for text in picture.findall(f"{name}text")}


def test_a_sequence_has_a_path_for_each_request(script, folder):
    place = unlearned(folder, "edit.schedule=sequential", "edit.n=2", "method.steps=2", "gold.n=0")
    assert script.main(place) == 0
    assert [(row["model"], row["request"], row["step"]) for row in table(place)] == [
        ("base", "", "0"), ("path", "0", "2"), ("path", "1", "2"),
    ]  # fmt: skip


def test_what_has_no_path_or_cannot_be_rebuilt_is_told(script, finished, tmp_path, capsys):
    assert script.main(tmp_path) == 1
    assert "no .hydra/config.yaml, which runs from the command line have" in capsys.readouterr().err
    shutil.copytree(finished / ".hydra", tmp_path / ".hydra")
    shutil.copyfile(finished / "request.json", tmp_path / "request.json")
    assert script.main(tmp_path) == 1
    assert "no model under edited/path; run it with method.save_every" in capsys.readouterr().err
    request = json.loads((tmp_path / "request.json").read_text())
    (tmp_path / "request.json").write_text(json.dumps(request | {"facts": request["facts"][1:]}))
    assert script.main(tmp_path) == 1
    assert "this version draws another request" in capsys.readouterr().err
