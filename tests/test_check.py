"""Mistakes on the command line: every one told in one message, with exit status 2, before anything is done."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from subprocess_env import ENVIRONMENT

from unlearn_cli.check import check
from unlearn_cli.cli import config_dir, refusal
from unlearn_cli.command import parse
from unlearn_cli.edits.base import CHANGING
from unlearn_cli.errors import ConfigError
from unlearn_cli.methods.npo import NPO

CHANGES = ", ".join(sorted(CHANGING))
QUOTES = "needs quotes of its own inside the shell's:"

# A command line, and the start of every line that it must be answered with.
MISTAKES = {
    "unknown option": ("method=npx", "method=npx: no such name; did you mean npo? options: alphaedit, "),
    "unknown world": ("world=tabular_smal", "world=tabular_smal: no such name; did you mean tabular_small?"),
    "unknown metric in a list": (
        "metric=[core,fact_acuracy]",
        "metric=fact_acuracy: no such name; did you mean fact_a",
    ),
    "unknown experiment": ("experiment=nothing_like_it", "experiment=nothing_like_it: no such name; options: "),
    "included file": ("method=_loss", "method=_loss: no such name;"),
    "unknown group": ("methd=npo", "methd: no such name; did you mean method? names: attack, dry_run, "),
    "unknown field": ("method.bta=1", "method.bta: no such name; did you mean beta? fields here: adapter, beta, "),
    "nested field": (
        "world.grammar.filers=3",
        "world.grammar.filers: no such name; did you mean fillers? fields here: ",
    ),
    "field of a section": ("trainer.device=2", "trainer.device: no such name; did you mean devices? fields here: acc"),
    "field without its group": ("beta=0.1", "beta: no such name; did you mean method.beta?"),
    "field of another option": ("method=simnpo edit.gamma=1", "edit.gamma: no such name; did you mean method.gamma?"),
    "field of a value": ("seed.x=1", "seed.x: seed is a value and has no fields"),
    "field in a mapping": (
        "'retain={pol: 0.1}'",
        "retain.pol: no such name; did you mean pool? fields here: pool, req",
    ),
    "added field": ("+method.bta=1", "method.bta: no such name; did you mean beta?"),
    "forced field": ("++sede=1", "sede: no such name; did you mean seed?"),
    "removed unknown": ("~sede", "~sede: no such name; did you mean seed?"),
    "removed unknown metric": ("~metric.cots", "~metric.cots: no such name; did you mean cost?"),
    "removed group": ("~method", "~method: a group cannot be removed; choose another option: alphaedit, "),
    "removed field": ("~seed", "~seed: cannot be removed; give it a value: seed=<value>"),
    "equals sign": (
        "name=a=b",
        f"""name: a=b cannot be read; a text with = , # ; & ~ brackets or quotes {QUOTES} 'name="a=b"'""",
    ),
    "tilde": ("paths.cache=~/x", "paths.cache: ~/x cannot be read;"),
    "open bracket": ("name=[a", "name: [a cannot be read;"),
    "unknown function": ("'name=f(1)'", "name: f(1) given; evaluating 'f(1)': Unknown function 'f'"),
    "spaces around =": ("seed = 3", "seed: no such name;", "=: '' is no name; expected key=value", "3: no such name;"),
    "group alone": ("method", "method: nothing given; expected method=<one of alphaedit, "),
    "unknown sub-command": (
        "cachee",
        "cachee: no such name; did you mean cache? sub-commands: cache, export, search, status; anything else is",
    ),
    "sub-command later": ("seed=1 cache", "cache: a sub-command comes first: unlearn cache ..."),
    "unknown flag": ("--multirn", "--multirn: no such flag; did you mean --multirun?"),
    "bad choice of a flag": ("--cfg jb", "--cfg/-c: invalid choice: 'jb'"),
    "flags that exclude each other": ("-m --cfg job", "--multirun, --cfg: given together; expected one of them"),
    "pickle": ("--experimental-rerun x", "--experimental-rerun: given; not offered"),
    "no such folder": ("--config-dir nowhere", "--config-dir: nowhere given; there is no such folder"),
    "text for a number": ("method.beta=large", "method.beta: 'large' given; expected a number > 0"),
    "number out of range": ("method.beta=-1", "method.beta: -1 given; expected a number > 0"),
    "fraction out of range": ("retain.pool=1.5", "retain.pool: 1.5 given; expected a number >= 0 and <= 1"),
    "fraction for a count": ("method.steps=1.5", "method.steps: 1.5 given; expected a whole number >= 1"),
    "truth value for a count": ("method.steps=true", "method.steps: true given; expected a whole number >= 1"),
    "not a number": ("method.lr=nan", "method.lr: nan given; expected a number > 0"),
    "one of": ("method.retain_loss=mse", "method.retain_loss: 'mse' given; expected one of none, nll, kl"),
    "negative seed": ("seed=-1", "seed: -1 given; expected a whole number >= 0"),
    "null seed": ("seed=null", "seed: null given; expected a whole number >= 0"),
    "text for a truth value": ("dry_run=maybe", "dry_run: 'maybe' given; expected true or false"),
    "text for a list": (
        "plugins=mine",
        "plugins: 'mine' given; expected a list of packages, as in plugins=[my_package]",
    ),
    "empty folder name": ("paths.runs=", "paths.runs: '' given; expected a text that is not empty"),
    "null group": ("world=null", "world: null given; expected one of correlated_paper, "),
    "null metric": ("metric=null", "metric: null given; expected one of "),
    "empty group": ("method=", "method: nothing given; expected one of alphaedit, "),
    "list for one option": (
        "method=[npo,ga]",
        "method: a list given; expected one option, or for several runs -m method=npo,ga",
    ),
    "mapping for an option": (
        "'method={a: 1}'",
        "method: a mapping given; expected an option; set a field with method.<fi",
    ),
    "value for a section": ("trainer=fast", "trainer: fast given; expected its fields, as in trainer.<field>=<value>"),
    "value for a metric": (
        "metric.cost=1",
        "metric.cost: 1 given; expected its fields, as in metric.cost.<field>=<value>",
    ),
    "missing value": ("world.subjects=???", "world.subjects: missing; give it with world.subjects=<value>"),
    "unset variable": (
        "'name=${oc.env:NOT_SET}'",
        "name: ${oc.env:NOT_SET} given; Environment variable 'NOT_SET' not found",
    ),
    "dangling reference": ("'name=${nothing}'", "name: ${nothing} given; Interpolation key 'nothing' not found"),
    "foreign class": ("method._target_=os.system", "method._target_: os.system given; allowed packages: unlearn_cli"),
    "several values": (
        "seed=0,1",
        "seed: 0,1 given; to run one after the other add -m; a list is 'seed=[0,1]', a text",
    ),
    "interval": ("-m 'method.lr=interval(1,2)'", "BasicSweeper does not support sweep type : INTERVAL_SWEEP; write ch"),
    "sweep of Hydra": ("-m hydra.job.name=a,b", "hydra.job.name: several values given; expected one"),
    "Hydra's field": ("hydra.run.dirr=x", "hydra.run.dirr: x given; Key 'dirr' not in 'RunDir'"),
    "Hydra's option": (
        "hydra/launcher=x",
        "In 'hydra/config': Could not find 'hydra/launcher/x': no such name; options: ",
    ),
    "edit too large": ("edit.n=5000", "edit.n: 5000 given; this world has 1000 such facts"),
    "method on the wrong edit": (
        "method=ft",
        f"method: ft takes {CHANGES} edits; edit=forget is forget",
    ),
    "fields of a model": ("model.heads=3", "model: heads = 3 does not divide hidden_size = 128"),
    "needs a gold": ("method=retrain gold.n=0", "gold.n: 0 given; method=retrain needs a gold model: at least 1"),
    "a block that is not there": (
        "method=rmu method.layer=9",
        "method.layer: 9 given; this model has blocks 0 to 1, or",
    ),
    "several blocks": (
        "method=memit method.layers=[0,-5]",
        "method.layers: -5 given; this model has blocks 0 to 1, or",
    ),
    "a block inside a selection": (
        "method=npo method/select=upcore method.select.layer=4",
        "method.select.layer: 4 given",
    ),
    "the last block at the subject": (
        "method=rome method.site=subject",
        "method.site: 'subject' given, with method.layer; what the last block writes there never reaches the answer",
    ),
    "folder in the way": ("paths.runs=/dev/null/x", "paths.runs: /dev/null/x/"),
    "typo and range together": (
        "method.bta=1 method.beta=-1 seed=-1 trainer.devices=0",
        "method.bta: no such name; did you mean beta?",
        "seed: -1 given; expected a whole number >= 0",
        "trainer.devices: 0 given; expected a whole number >= 1",
        "method.beta: -1 given; expected a number > 0",
    ),
    "what a misspelt field would have given is not missed": (
        "world=qa world.forgte=f.jsonl model.path=m",
        "world.forgte: no such name; did you mean forget?",
    ),
    "what is missing beside it is": (
        "world=qa world.forgte=f.jsonl",
        "world.forgte: no such name; did you mean forget?",
        "model.path: missing; give it with model.path=<value>",
    ),
    "what is missing is told where no name shows that it was meant": (
        "world=qa world.zzz=json model.path=m",
        "world.zzz: no such name; fields here: ",
        "world.forget: missing; give it with world.forget=<value>",
    ),
    "nothing is held against a run that was not understood": (
        "method.bta=1 edit=remap edit.n=100000",
        "method.bta: no such name; did you mean beta?",
    ),
    "fields of an unknown option are not judged": ("method=npx method.beta=-1 gold.n=0", "method=npx: no such name;"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_and_nothing_is_done(case, unlearn, tmp_path):
    words, *expected = MISTAKES[case]
    ended = unlearn(*shlex.split(words))
    assert ended.status == 2 and ended.out == ""
    assert len(ended.problems) == len(expected), ended.err
    assert all(line.startswith(start) for line, start in zip(ended.problems, expected, strict=True)), ended.err
    count = "1 problem" if len(expected) == 1 else f"{len(expected)} problems"
    assert ended.err.splitlines()[0] == f"unlearn: {count}, nothing was run"
    assert list(tmp_path.iterdir()) == []


def test_every_suggested_quoting_is_accepted(unlearn):
    for value in ("a=b", "~/x", "[a", "a#b", "a;b", "it's", 'say "x"', "a\\'b", " "):
        ended = unlearn(f"name={value}", "dry_run=true")
        if ended.status:
            advice = ended.problems[0].partition(QUOTES)[2].strip()
            assert unlearn(*shlex.split(advice), "dry_run=true").status == 0, advice


def test_adding_what_exists_is_setting_it():
    checked = check_words("+seed=7", "++method.beta=3.0", "+method=simnpo", "+metric=[cost]")
    (cell,) = checked.cells
    assert (cell.experiment.seed, cell.experiment.method.beta) == (7, 3.0)
    assert list(cell.experiment.metric) == ["cost"] and cell.experiment.chosen("method") == "simnpo"
    assert checked.overrides == ["seed=7", "method.beta=3.0", "method=simnpo", "metric=[cost]"]


def test_a_metric_can_be_left_out():
    (cell,) = check_words("metric=[cost,base_recall]", "~metric.cost").cells
    assert list(cell.experiment.metric) == ["base_recall"]
    assert check_words("metric=[]").cells[0].experiment.metric == {}


def test_a_run_of_a_sweep_that_contradicts_itself_is_set_aside_with_its_reasons():
    cells = check_words("-m", "method=npo,ft", "edit=remap,forget", "edit.n=8,26").cells
    refused = {cell.label: cell.refused for cell in cells if not cell.experiment}
    many = (
        "edit.n: 26 given; with edit.distinct=true at most 25: in each relation all old and new objects differ, and"
        " half of its objects can be old ones"
    )
    pairing = f"method: ft takes {CHANGES} edits; edit=forget is forget"
    assert refused == {
        "method=npo edit=remap edit.n=26": (many,),
        "method=ft edit=remap edit.n=26": (many,),
        "method=ft edit=forget edit.n=8": (pairing,),
        "method=ft edit=forget edit.n=26": (pairing,),
    }
    assert [cell.label for cell in cells if cell.experiment] == [
        "method=npo edit=remap edit.n=8",
        "method=npo edit=forget edit.n=8",
        "method=npo edit=forget edit.n=26",
        "method=ft edit=remap edit.n=8",
    ]


def test_a_sweep_of_which_every_run_contradicts_itself_is_refused():
    with pytest.raises(ConfigError) as raised:
        check_words("-m", "method=ft", "edit=forget", "seed=0,1")
    assert raised.value.problems == [f"method: ft takes {CHANGES} edits; edit=forget is forget"]


def test_a_wrong_value_in_one_run_refuses_the_sweep():
    with pytest.raises(ConfigError) as raised:
        check_words("-m", "method.lr=1e-4,-1", "seed=0,1")
    assert raised.value.problems == ["method.lr: -1 given; expected a number > 0 (run method.lr=-1 seed=0 and 1 more)"]


@pytest.mark.parametrize("word", ["sweep.parallel=0", "sweep.parallel=many", "sweep.paralel=2", "sweep=3"])
def test_the_sweep_section_is_checked(word):
    with pytest.raises(ConfigError) as raised:
        check_words("-m", word)
    assert raised.value.problems[0].startswith("sweep")


def test_a_problem_of_every_run_is_told_once_without_naming_one():
    with pytest.raises(ConfigError) as raised:
        check_words("-m", "seed=0,1,2", "method.lr=0")
    assert raised.value.problems == ["method.lr: 0 given; expected a number > 0"]


def test_the_cells_of_a_sweep_are_those_that_hydra_runs():
    checked = check_words("-m", "seed=range(0,2)", "method=npo,ga", "method.lr=1e-4")
    labels = [cell.label for cell in checked.cells]
    assert labels == ["seed=0 method=npo", "seed=0 method=ga", "seed=1 method=npo", "seed=1 method=ga"]
    assert [(cell.experiment.seed, cell.experiment.chosen("method")) for cell in checked.cells] == [
        (0, "npo"),
        (0, "ga"),
        (1, "npo"),
        (1, "ga"),
    ]
    assert {cell.experiment.method.lr for cell in checked.cells} == {1e-4}


OWN = {
    "method/mine.yaml": "# mine\ndefaults:\n  - npo\n  - _self_\nbeta: 0.5\n",
    "method/broken.yaml": "# broken\nbeta: 0.5\n  lr: : 3\n",
    "method/astray.yaml": "# astray\ndefaults:\n  - nop\n  - _self_\n",
    "method/typo.yaml": "# typo\ndefaults:\n  - npo\n  - _self_\nbta: 0.5\n",
    "method/brief.yaml": "# no field listed\n_target_: unlearn_cli.methods.npo.NPO\n",
    "method/sub/deep.yaml": "# @package method\n# in a subfolder\n_target_: unlearn_cli.methods.npo.NPO\nbeta: 0.25\n",
    "method/foreign.yaml": "# of another package\n_target_: plugged.Plugged\nstrength: 2.0\n",
    "method/hole.yaml": "# a value to be given\n_target_: unlearn_cli.methods.npo.NPO\nbeta: ???\n",
    "experiment/grid.yaml": "# @package _global_\n# a grid\ndefaults:\n  - override /method: ga\nname: grid\n"
    "hydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      seed: range(0,3)\n      method.lr: 1e-4,2e-4\n",
    "experiment/wrong.yaml": "# @package _global_\n# wrong\nsede: 3\nhydra:\n  mode: MULTIRUN\n"
    "  sweeper:\n    params:\n      method: npo,npx\n",
}


@pytest.fixture
def own(tmp_path):
    for name, text in OWN.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text(text)
    return str(tmp_path / "own")


def test_an_option_of_ones_own_builds_on_a_shipped_one(own):
    (mine,), (shipped,) = (check_words("--config-dir", own, f"method={name}").cells for name in ("mine", "npo"))
    assert mine.experiment.method == replace(shipped.experiment.method, beta=0.5)


def test_an_option_of_ones_own_may_be_in_a_subfolder(own):
    (cell,) = check_words("--config-dir", own, "method=sub/deep").cells
    assert cell.experiment.method == NPO(beta=0.25)


def test_a_field_that_the_yaml_leaves_out_can_be_set(own, unlearn):
    checked = check_words("--config-dir", own, "method=brief", "method.beta=0.75")
    assert checked.cells[0].experiment.method.beta == 0.75 and checked.overrides[1] == "++method.beta=0.75"
    assert unlearn("--config-dir", own, "method=brief", "method.beta=0.75").status == 0
    assert refused("--config-dir", own, "method=brief", "method.bta=1")[0].startswith(
        "method.bta: no such name; did you mean beta?"
    )


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("broken", "{own}/method/broken.yaml, line 3: mapping values are not allowed here"),
        ("astray", "In 'method/astray': Could not load 'method/nop': no such name; did you mean noop?"),
        ("typo", "method.bta: no such name; did you mean beta?"),
        (
            "foreign",
            "method._target_: plugged.Plugged given; allowed packages: unlearn_cli (opt in to another with plug",
        ),
        ("hole", "method.beta: missing; give it with method.beta=<value>"),
        ("mien", "method=mien: no such name; did you mean mine?"),
    ],
)
def test_what_is_wrong_in_ones_own_file_is_told(own, option, line):
    (told,) = refused("--config-dir", own, f"method={option}")
    assert told.startswith(line.format(own=own))


def test_a_class_of_another_package_needs_its_plugin(own, tmp_path, monkeypatch):
    (tmp_path / "plugged.py").write_text(PLUGGED)
    monkeypatch.syspath_prepend(str(tmp_path))
    (cell,) = check_words("--config-dir", own, "method=foreign", "plugins=[plugged]").cells
    assert cell.experiment.method.strength == 2.0
    told = refused("--config-dir", own, "method=foreign", "plugins=[plugged]", "method.strength=-1")
    assert told == ["method.strength: -1 given; expected a number > 0"]
    told = refused("--config-dir", own, "method=foreign", "plugins=[nowhere]")
    assert told[0].endswith("allowed packages: unlearn_cli, nowhere (opt in to another with plugins=[plugged])")


PLUGGED = """
from unlearn_cli.component import Positive, component
from unlearn_cli.methods.noop import Noop

@component
class Plugged(Noop):
    strength: Positive = 1.0
"""


def test_a_file_that_hides_behind_a_shipped_one_is_refused(own):
    (Path(own) / "method" / "npo.yaml").write_text("# never read\n")
    told = refused("--config-dir", own, "seed=1")
    assert told == ["--config-dir: method/npo.yaml has the name of a shipped option and is never read; rename it"]


def test_an_experiment_brings_its_own_grid(own):
    checked = check_words("--config-dir", own, "experiment=grid")
    assert [cell.label for cell in checked.cells] == [
        f"seed={seed} method.lr={lr}" for seed in range(3) for lr in (0.0001, 0.0002)
    ]
    assert {(cell.experiment.name, cell.experiment.chosen("method")) for cell in checked.cells} == {("grid", "ga")}
    narrowed = check_words("--config-dir", own, "experiment=grid", "seed=5")
    assert [cell.experiment.seed for cell in narrowed.cells] == [5, 5]


def test_what_is_wrong_in_an_experiment_is_told(own):
    told = refused("--config-dir", own, "experiment=wrong")
    assert told[0].startswith("method=npx: no such name; did you mean npo?")
    assert told[1].startswith("sede: no such name; did you mean seed?")


def test_a_folder_that_may_not_be_written_is_told(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    if os.access(locked, os.W_OK):
        pytest.skip("this user may write anywhere")
    (told,) = refused(f"hydra.run.dir={locked}/x")
    assert told == f"hydra.run.dir: {locked}/x cannot be made, since {locked} is not writable"


KEYS = st.sampled_from(
    ["seed", "method", "method.lr", "+name", "++x", "~metric.cost", "world.grammar", "hydra.run.dir", ""]
)
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.builds("{}={}".format, KEYS, VALUES), VALUES), max_size=3))
def test_whatever_is_typed_is_checked_or_refused(words):
    try:
        command = parse(words, config_dir())
        if not command.asks_hydra:
            check(command)
    except ConfigError as error:
        assert len(refusal(error).splitlines()) == 1 + len(set(error.problems)) > 1


def test_a_refusal_is_light_and_leaves_nothing(tmp_path):
    script = (
        "import sys; from unlearn_cli.cli import main; status = main(['method=npx', 'seed=-1', 'edit.n=x']);"
        "heavy = {'torch', 'lightning', 'transformers', 'wandb', 'pyarrow', 'rich'} & set(sys.modules);"
        "print(status, sorted(heavy))"
    )
    command = [sys.executable, "-c", script]
    told = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert told.stdout == "2 []\n"
    assert told.stderr.splitlines()[0] == "unlearn: 3 problems, nothing was run" and "Traceback" not in told.stderr
    assert list(tmp_path.iterdir()) == []


def check_words(*words):
    return check(parse(words, config_dir()), ["cache"])


def refused(*words):
    with pytest.raises(ConfigError) as raised:
        check_words(*words)
    return raised.value.problems
