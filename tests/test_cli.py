"""The command line: what goes where, exit statuses, folders, sweeps, interruptions, and the installed wheel."""

from __future__ import annotations

import logging
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from subprocess_env import ENVIRONMENT

from unlearn_cli import __version__, cli
from unlearn_cli.edits.base import CHANGING

CHANGES = ", ".join(sorted(CHANGING))
ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
FAKED = (
    "import sys, fake_pipeline; sys.modules['unlearn_cli.pipeline'] = fake_pipeline;"
    " from unlearn_cli import machine; machine.cores = lambda: 1;"
)


def start(words, folder, **more):
    """The command line in a process of its own, on the pipeline that does nothing."""
    script = f"{FAKED} from unlearn_cli.cli import main; sys.exit(main({words!r}))"
    environment = ENVIRONMENT | {"PYTHONPATH": f"{HERE}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", script], cwd=folder, env=environment | more, **streams)


def finish(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_results_go_to_stdout_and_messages_to_stderr(unlearn, tmp_path):
    ended = unlearn("seed=3", "world=tabular_tiny")
    (run_dir,) = tmp_path.glob("runs/*/*")
    assert ended.status == 0
    assert ended.out == f"| npo | tabular_tiny | seed 3 |\n{run_dir}\n"
    assert ended.err == "running seed 3\n"
    assert re.fullmatch(r"\d\d-\d\d-\d\d_tabular_tiny_npo_s3_[0-9a-f]{6}", run_dir.name)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", run_dir.parent.name)
    assert sorted(path.name for path in run_dir.iterdir()) == [".hydra", "result.json", "unlearn.log"]
    assert re.fullmatch(r"\[.*\]\[fake_pipeline\]\[INFO\] running seed 3\n", (run_dir / "unlearn.log").read_text())


def test_two_runs_in_one_second_have_two_folders(unlearn, tmp_path):
    outs = {unlearn("world=tabular_tiny").out for _ in range(3)}
    assert len(outs) == 3 == len(list(tmp_path.glob("runs/*/*")))


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("well", 0, "running seed 0"),
        ("fail", 1, "running seed 0"),
        ("raise", 1, "The cache is damaged."),
        ("bug", 1, "ZeroDivisionError: a bug of ours"),
    ],
)
def test_the_exit_status_says_how_a_run_ended(unlearn, name, status, said):
    ended = unlearn(f"name={name}")
    assert ended.status == status and said in ended.err
    assert ("Traceback" in ended.err) == (name == "bug")
    assert "HYDRA_FULL_ERROR" not in ended.err


def test_folders_come_from_the_environment_with_the_home_filled_in(unlearn, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UNLEARN_RUNS", "~/elsewhere")
    unlearn("world=tabular_tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert len(list(tmp_path.glob("home/elsewhere/*/*_tabular_tiny_npo_s0_*/result.json"))) == 1


def test_hydra_settings_pass(unlearn, tmp_path):
    assert unlearn("hydra.run.dir=here", "+hydra.job.env_set.SOME=1", "hydra.verbose=true").status == 0
    assert (tmp_path / "here" / "result.json").is_file()


def test_a_sweep_goes_on_after_a_failure_and_ends_in_one_table(unlearn, tmp_path):
    ended = unlearn("-m", "seed=range(0,4)", "method=npo,ga", "name=odd seeds fail")
    (sweep,) = tmp_path.glob("runs/sweeps/*/*")
    names = [
        f"{n}_tabular_small_{method}_s{seed}"
        for n, (seed, method) in enumerate((seed, method) for seed in range(4) for method in ("npo", "ga"))
    ]
    assert ended.status == 1
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == names
    lines = ended.out.splitlines()
    assert lines[0].split() == ["setting", "ok", "forget", "edited", "retain/unseen", "gold", "forget", "seconds"]
    assert [line.split()[:3] for line in lines[1:3]] == [["method=npo", "2/4", "0.040"], ["method=ga", "2/4", "0.040"]]
    failed = ", ".join(f"seed={seed} method={method}" for seed, method in ((1, "npo"), (1, "ga"), (3, "npo")))
    assert lines[3] == f"failed 4 runs: {failed}, and 1 more: as told"
    assert lines[-2:] == ["8 runs: 4 ok, 4 failed", str(sweep)]
    assert "[8/8] failed seed=3 method=ga: as told" in ended.err
    assert (sweep / names[0] / "console.log").read_text().splitlines() == [
        "| npo | tabular_small | seed 0 |",
        str(sweep / names[0]),
    ]
    assert unlearn("status", str(sweep)).out.splitlines() == lines[:-1]


def test_a_bug_in_one_run_of_a_sweep_does_not_stop_the_rest(unlearn, tmp_path):
    ended = unlearn("-m", "name=bug,well,raise", "world=tabular_tiny")
    assert ended.status == 1 and len(list(tmp_path.glob("runs/sweeps/*/*/*/result.json"))) == 3
    assert ended.out.splitlines()[-2] == "3 runs: 2 failed, 1 ok"
    (log,) = tmp_path.glob("runs/sweeps/*/*/0_*/unlearn.log")
    assert "ZeroDivisionError: a bug of ours" in log.read_text()


def test_a_run_that_contradicts_itself_is_refused_and_the_others_run(unlearn, tmp_path):
    ended = unlearn("-m", "method=npo,ft", "edit=forget")
    assert ended.status == 1
    assert ended.out.splitlines()[-3:-1] == [
        f"refused: method=ft: method: ft takes {CHANGES} edits; edit=forget is forget",
        "2 runs: 1 ok, 1 refused",
    ]
    assert [path.name for path in tmp_path.glob("runs/sweeps/*/*/*/result.json")] == ["result.json"]


def test_a_sweep_without_a_run_that_can_run_does_nothing(unlearn, tmp_path):
    ended = unlearn("-m", "method=ft", "edit=forget", "seed=0,1")
    assert ended.status == 2 and ended.out == "" and list(tmp_path.iterdir()) == []


def test_a_folder_takes_the_same_sweep_again_and_no_other(unlearn, tmp_path):
    assert unlearn("-m", "seed=0,1", "hydra.sweep.dir=here").status == 0
    assert unlearn("-m", "seed=0,1", "hydra.sweep.dir=here").status == 0
    ended = unlearn("-m", "seed=0,2", "hydra.sweep.dir=here")
    assert (ended.status, ended.out) == (2, "")
    told = f"hydra.sweep.dir: {tmp_path / 'here'} holds another sweep; choose another folder, or remove it"
    assert ended.err == f"unlearn: 1 problem, nothing was run\n  {told}\n"


def test_the_status_of_what_is_no_sweep(unlearn, tmp_path):
    ended = unlearn("status", str(tmp_path))
    assert (ended.status, ended.err) == (1, f"{tmp_path} is no sweep: it has no sweep.json\n")


def test_an_experiment_of_ones_own_runs_its_grid(unlearn, tmp_path):
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "grid.yaml").write_text(
        "# @package _global_\n# a grid\ndefaults:\n  - override /world: tabular_tiny\n"
        "hydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      seed: 4,5\n      method.beta: 1.0,2.0\n"
    )
    ended = unlearn("--config-dir", "own", "experiment=grid")
    assert ended.status == 0
    seeds = [path.read_text().splitlines()[0] for path in sorted(tmp_path.glob("runs/sweeps/*/*/*/console.log"))]
    assert seeds == [f"| npo | tabular_tiny | seed {seed} |" for seed in (4, 4, 5, 5)]


def test_dry_run_describes_every_run_and_makes_no_folder(unlearn, tmp_path):
    assert unlearn("dry_run=true", "seed=2").out == "train  npo  seed 2\n"
    ended = unlearn("-m", "dry_run=true", "method=npo,ga")
    assert ended.out == "method=npo\ntrain  npo  seed 0\nmethod=ga\ntrain  ga  seed 0\n"
    assert ended.status == 0 and list(tmp_path.iterdir()) == []


def test_the_configuration_can_be_shown(unlearn, tmp_path):
    ended = unlearn("--cfg", "job", "method.beta=-1", "--package", "method.beta")
    assert (ended.status, ended.out, ended.err) == (0, "-1\n", "")
    resolved = unlearn("seed=1", "--cfg", "job", "--resolve", "seed=5").out
    assert "seed: 5\n" in resolved and "cache: ~/.cache/unlearn\n" in resolved
    assert unlearn("--cfg", "job", "methd=npo").status == 2
    assert list(tmp_path.iterdir()) == []


def test_version_and_help(unlearn):
    assert unlearn("--version").out == f"unlearn {__version__}\n"
    assert unlearn("--help").out == unlearn("-h").out
    assert unlearn("--help").out.startswith("usage: unlearn [group=option ...]")
    assert unlearn("--help", "trainer.threads").out.startswith("  trainer.threads  1  CPU threads of each stage, >= 1;")
    assert unlearn("--help", "cache").out.startswith("cache: list, verify and prune")


def test_help_of_an_option_shows_each_field_once_with_its_own_value(unlearn):
    lines = unlearn("method=ga", "--help").out.splitlines()
    assert lines[0] == "method=ga: gradient ascent (Jang et al. 2022): a baseline that damages the model"
    fields = [line.split()[:2] for line in lines[2:]]
    assert ["method.retain_loss", "none"] in fields and ["method.adapter.rank", "0"] in fields
    names = [name for name, _ in fields]
    assert len(names) == len(set(names)) and names[0] == "method.lr"
    assert unlearn("--help", "world=tabular_tiny").out.splitlines()[1] == "chooses, unless you do: model=tiny"


def test_help_of_ones_own_options(unlearn, tmp_path):
    (tmp_path / "own" / "method").mkdir(parents=True)
    (tmp_path / "own" / "method" / "mine.yaml").write_text(
        "# sharper NPO\ndefaults: [npo, _self_]\nbeta: 9.0  # high\n"
    )
    assert re.search(r"^    mine +sharper NPO$", unlearn("--help", "--config-dir", "own").out, re.MULTILINE)
    lines = unlearn("--config-dir=own", "--help", "method=mine").out.splitlines()
    assert lines[2].split() == ["method.beta", "9.0", "high"]
    assert len(lines) == len(unlearn("--help", "method=npo").out.splitlines())
    (tmp_path / "own" / "method" / "bad.yaml").write_text("# bad\na: : 1\n")
    ended = unlearn("--config-dir", "own", "--help", "method=bad")
    assert (ended.status, ended.problems) == (2, ["own/method/bad.yaml, line 2: mapping values are not allowed here"])


def test_help_of_what_does_not_exist_names_the_nearest(unlearn):
    ended = unlearn("--help", "method=npx", "trainr")
    assert ended.status == 2 and ended.out == ""
    assert ended.problems[0].startswith("method=npx: no such name; did you mean npo?")
    assert ended.problems[1].startswith("trainr: no such name; did you mean trainer?")


def test_a_sub_command_gets_the_other_words(unlearn, monkeypatch):
    import unlearn_cli.cache.housekeeping as housekeeping

    given = []
    monkeypatch.setattr(housekeeping, "main", lambda argv: given.append(argv) or 1)
    assert unlearn("cache", "list", "--json").status == 1 and given == [["list", "--json"]]


def test_completion_offers_options_and_fields(unlearn, monkeypatch):
    monkeypatch.setenv("COMP_LINE", "unlearn method=")
    assert "method=npo" in unlearn("-sc", "query=bash").out.split()
    monkeypatch.setenv("COMP_LINE", "unlearn method.st")
    assert "method.steps=" in unlearn("-sc", "query=bash").out.split()


def test_the_job_is_pickled_by_reference():
    assert pickle.loads(pickle.dumps(cli.run)) is cli.run and len(pickle.dumps(cli.run)) < 60


def test_the_root_logger_is_told_nothing_on_stdout(unlearn):
    unlearn("world=tabular_tiny")
    streams = [handler.stream for handler in logging.getLogger().handlers if hasattr(handler, "stream")]
    assert sys.stdout not in streams


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_and_the_sweep_in_order(tmp_path, number, status):
    process = start(["-m", "name=wait", "seed=0,1", "world=tabular_tiny"], tmp_path)
    while not (found := [*tmp_path.glob("runs/sweeps/*/*/0_*/console.log")]) or not found[0].read_text():
        time.sleep(0.1)
    assert found[0].read_text() == "PASSIVE _interrupt\n"
    time.sleep(0.2)  # until it sleeps
    process.send_signal(number)
    returned, out, err = finish(process)
    assert returned == status and "Traceback" not in err
    assert out.splitlines()[-2:] == ["2 runs: 1 running, 1 waiting", str(found[0].parent.parent)]
    assert not list(tmp_path.glob("runs/sweeps/*/*/1_*"))


def test_a_reader_that_has_gone_away_is_no_failure(tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "unlearn_cli", "--help"]
    with os.fdopen(write) as out:
        told = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, stdout=out, stderr=subprocess.PIPE, text=True)
    assert (told.returncode, told.stderr) == (0, "")


def test_python_dash_m_is_the_same(tmp_path):
    command = [sys.executable, "-m", "unlearn_cli", "seed=-1"]
    told = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == "unlearn: 1 problem, nothing was run\n  seed: -1 given; expected a whole number >= 0\n"


def test_help_needs_neither_hydra_nor_torch(tmp_path):
    script = (
        "import sys; from unlearn_cli.cli import main; main(['--help']); main(['--version']);"
        "print(sorted({'hydra', 'omegaconf', 'torch', 'pandas', 'wandb'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script]
    told = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert told.stdout.endswith(f"unlearn {__version__}\n[]\n")


@pytest.mark.slow
def test_the_wheel_behaves_like_the_checkout(tmp_path):
    pytest.importorskip("hatchling")
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "runs", "dist", "build"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, copy], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    assert (tmp_path / "site" / "bin" / "unlearn").is_file()
    for words in (["--help"], ["--cfg", "job"], ["--help", "method=npo"], ["method=npx"]):
        said = [_said(words, place, tmp_path) for place in (tmp_path / "site", copy)]
        assert said[0] == said[1] and said[0][0] == (2 if "npx" in words[0] else 0)


def _said(words, place, folder):
    """What the package at `place` answers from another folder."""
    script = f"import sys; import unlearn_cli; assert unlearn_cli.__file__.startswith({str(place)!r});"
    script += f"from unlearn_cli.cli import main; sys.exit(main({words!r}))"
    environment = ENVIRONMENT | {"PYTHONPATH": str(place)}
    told = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    return told.returncode, told.stdout, told.stderr
