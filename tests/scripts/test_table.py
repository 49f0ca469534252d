"""Tables of papers: numbers, tests and verdicts by hand, and the whole path from an experiment to its files."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_result import entry
from omegaconf import OmegaConf

from unlearn_cli.analysis.exchanged import Bench, p_value
from unlearn_cli.analysis.grid import grid_of
from unlearn_cli.analysis.grid_columns import column
from unlearn_cli.analysis.grid_pages import at_edges, write
from unlearn_cli.analysis.paired import sign_flip
from unlearn_cli.analysis.table_spec import Claim, Rule, table_spec
from unlearn_cli.analysis.verdicts import Compared, Trial, outcome, trials
from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.composition import Composer
from unlearn_cli.errors import ConfigError, UnlearnError
from unlearn_cli.result_schema import SCHEMA_VERSION
from unlearn_cli.sweep.record import outcomes, read
from unlearn_cli.sweep.record import write as write_record

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "analysis"))

from made import sweep  # noqa: E402  finished runs with numbers of our choice

SUCCESS, KEPT = "fact_accuracy/edited", "fact_accuracy/retain/unseen"
SPEC = {
    "title": "made up",
    "panels": ["world"],
    "rows": ["method.scope", "method.adapter.rank"],
    "choose": "method.lr",
    "columns": {"success": SUCCESS, "kept": KEPT, "score": f"{SUCCESS} * {KEPT}"},
    "names": {"method.adapter.rank=0": "full"},
    "rule": {"measure": "score", "margin": 0.01, "alpha": 0.05},
    "claims": {
        "low": {
            "says": "low rank is better",
            "first": {"method.adapter.rank": [1]},
            "than": {"method.adapter.rank": [0]},
            "share": 0.5,
        }
    },
}


def run(rank, lr, seed, right, kept, scope="mlp", world="tabular_small"):
    """A run whose items are so many right of 40 edited ones, and so many kept of 200."""
    items = {"edited": [1.0] * right + [0.0] * (40 - right), "unrelated/unseen": [1.0] * kept + [0.0] * (200 - kept)}
    metrics = {
        SUCCESS: entry(right / 40, 0.0, direction="higher"),
        KEPT: entry(kept / 200, 1.0, direction="higher"),
        "items": items,
    }
    return [
        f"world={world}",
        f"method.scope={scope}",
        f"method.adapter.rank={rank}",
        f"method.lr={lr}",
        f"seed={seed}",
    ], metrics


def grid(folder, runs, **changes):
    return grid_of(table_spec(SPEC | changes), outcomes(sweep(folder, runs)))


def test_a_row_takes_the_rate_that_did_best_on_its_other_seeds(tmp_path):
    """Seed 0 is best at 0.1, seeds 1 and 2 at 0.2: seed 0 is told 0.2 by the others, and 1 and 2 are told apart."""
    scores = {(0, "0.1"): 200, (0, "0.2"): 100, (1, "0.1"): 120, (1, "0.2"): 180, (2, "0.1"): 100, (2, "0.2"): 190}
    made = grid(tmp_path / "s", [run(1, lr, seed, 40, kept) for (seed, lr), kept in scores.items()])
    (cell,) = made.cells.values()
    assert {seed: member.tuned for seed, member in cell.chosen.items()} == {0: "0.2", 1: "0.1", 2: "0.1"}
    entry = column(made, ("tabular_small",), "kept")["mlp", "1"]
    assert entry.summary.mean == pytest.approx((100 + 120 + 100) / 600) and entry.summary.n == 3


def test_rows_of_one_place_stand_together_whichever_sweep_they_are_of(tmp_path):
    parts = [(1, "mlp"), (2, "mlp"), (1, "attention"), (2, "attention"), (0, "mlp"), (0, "attention")]
    made = grid(tmp_path, [run(rank, "0.1", 0, 40, 200, scope=scope) for rank, scope in parts])
    expected = [("mlp", "1"), ("mlp", "2"), ("mlp", "0"), ("attention", "1"), ("attention", "2"), ("attention", "0")]
    assert [row for _, row in made.cells] == expected


def test_a_rate_at_the_edge_of_what_was_tried_is_told(tmp_path):
    """Rank 1 is best at the lowest of three rates, rank 2 at the middle one, rank 0 at the highest of its two."""
    best = {1: "1e-4", 2: "0.001", 0: "1e-2"}
    tried = {1: ["1e-4", "0.001", "1e-2"], 2: ["1e-4", "0.001", "1e-2"], 0: ["0.001", "1e-2"]}
    runs = [
        run(rank, lr, seed, 40, 180 if lr == best[rank] else 120)
        for rank in tried
        for lr in tried[rank]
        for seed in (0, 1)
    ]
    made = grid(tmp_path, runs)
    assert at_edges(made, ("tabular_small",)) == {"lowest": ["mlp 1"], "highest": ["mlp full"]}
    words = grid(tmp_path / "words", [run(1, lr, 0, 40, 180) for lr in ("slow", "fast")])
    assert at_edges(words, ("tabular_small",)) == {}


def test_exchanges_do_not_depend_on_what_was_compared_before():
    few, many, used = np.array([2, 5]), np.array([1, 4, 90]), Bench("one")
    first = used._signs(0, few, 1000)
    used._signs(0, many, 1000)
    for subjects in (few, many):
        assert np.array_equal(used._signs(0, subjects, 1000), Bench("one")._signs(0, subjects, 1000))
    assert np.array_equal(first, used._signs(0, few, 1000)) and set(np.unique(first)) == {-1.0, 1.0}


def test_for_one_metric_the_test_is_that_of_signs(tmp_path):
    """Two runs of one seed, 4 and 10 subjects apart: exactly enumerated, and drawn."""
    for apart in (4, 10):
        made = grid(tmp_path / f"s{apart}", [run(1, "0.1", 0, 40, 200), run(0, "0.1", 0, 40, 200 - apart)])
        one, two = (member.run for member in made.members)
        found = [Bench(name).differences(one, two, [KEPT]) for name in "abcdefghij"]
        exact = sign_flip(np.array([1 / 200] * apart))
        assert [differences[0] for differences in found] == pytest.approx([apart / 200] * 10)
        mean = np.mean([p_value([differences]) for differences in found])
        assert exact == 2 / 2**apart and mean == pytest.approx(exact, rel=0.03)


def test_a_product_is_exchanged_as_a_whole(tmp_path):
    """One loses what the other gains: factors differ, the product does not."""
    made = grid(tmp_path / "s", [run(1, "0.1", 0, 40, 100), run(0, "0.1", 0, 20, 200)])
    one, two = (member.run for member in made.members)
    differences = Bench("b").differences(one, two, [SUCCESS, KEPT])
    assert differences[0] == pytest.approx(0.0) and p_value([differences]) == 1.0
    assert p_value([Bench("b").differences(one, two, [KEPT])]) == pytest.approx(1e-4)


def test_a_median_is_not_tested_as_a_mean(tmp_path):
    words, metrics = run(1, "0.1", 0, 40, 100)
    metrics[KEPT] = entry(0.9, 1.0, direction="higher")
    made = grid(tmp_path / "s", [(words, metrics), run(0, "0.1", 0, 40, 200)])
    assert Bench("b").differences(*(member.run for member in made.members), [KEPT]) is None


@pytest.mark.parametrize(
    ("differences", "p", "said"),
    [
        ([0.02, 0.03], 0.01, "better"),
        ([-0.02, -0.03], 0.01, "worse"),
        ([0.02, 0.03], 0.05, "undecided"),  # not below alpha
        ([0.08, -0.01], 0.01, "undecided"),  # not of one sign
        ([0.008, 0.009], 0.01, "undecided"),  # below the margin
    ],
)
def test_one_comparison_by_the_rule(differences, p, said):
    assert outcome(differences, p, Rule(measure="score", margin=0.01, alpha=0.05)) == said


@pytest.mark.parametrize(
    ("better", "worse", "undecided", "said"),
    [
        (5, 5, 0, "holds"),
        (4, 5, 1, "holds_not"),
        (4, 6, 0, "fails"),
        (0, 0, 10, "undecided"),
        (0, 0, 0, "no comparison"),
    ],
)
def test_a_verdict_by_the_rule(better, worse, undecided, said):
    """At a needed share of a half of ten: 4 and 1 undecided could still be 5."""
    outcomes_ = ["better"] * better + ["worse"] * worse + ["undecided"] * undecided
    claim = Claim(says="so", first={"a": [1]}, than={"a": [0]}, share=0.5)
    trial = Trial("c", claim, "", [Compared(("w",), "1", "0", [0.0], 1.0, 1.0, name) for name in outcomes_])
    assert trial.verdict == {"holds_not": "undecided"}.get(said, said)


def test_claims_are_compared_within_a_panel_and_an_equal_rest(tmp_path):
    """Rank 1 keeps 40 more of 200 in one world, and the other has it the other way round."""
    runs = [
        run(rank, "0.1", seed, 40, kept if world == "tabular_small" else 360 - kept, scope, world)
        for world in ("tabular_small", "nested_small")
        for scope in ("mlp", "attention")
        for rank, kept in ((1, 200), (0, 160))
        for seed in (0, 1)
    ]
    tuned, shared = trials(grid(tmp_path / "s", runs))
    assert [(item.panel, item.first, item.than, item.outcome) for item in tuned.compared] == [
        (("tabular_small",), "mlp 1", "mlp 0", "better"),
        (("tabular_small",), "attention 1", "attention 0", "better"),
        (("nested_small",), "mlp 1", "mlp 0", "worse"),
        (("nested_small",), "attention 1", "attention 0", "worse"),
    ]
    assert tuned.verdict == "holds"
    assert [item.differences for item in shared.compared] == [pytest.approx([0.2, 0.2])] * 2 + [
        pytest.approx([-0.2] * 2)
    ] * 2
    assert shared.compared[0].first == "mlp 1 0.1"


def test_missing_failed_and_refused_runs_are_shown(tmp_path):
    folder = sweep(tmp_path / "s", [run(1, "0.1", 0, 40, 200), run(1, "0.1", 1, 40, 180), run(0, "0.1", 0, 30, 100)])
    planned = read(folder)
    stored = json.loads((folder / "1" / "result.json").read_text())
    stored |= {"status": "failed", "exit_status": 1, "metrics": {}}
    stored["error"] = {"stage": "edit", "type": "E", "message": "no memory"}
    (folder / "1" / "result.json").write_text(json.dumps(stored))
    for name in ("result.json", "items.parquet"):
        (folder / "2" / name).unlink()
    (folder / "2").rmdir()
    refused = type(planned[0])(3, "method=ft", ["method=ft"], "", ["takes no forget edits"])
    (folder / "sweep.json").unlink()
    write_record(folder, [*planned, refused], {})
    made = grid_of(table_spec(SPEC), outcomes(folder))
    write(made, trials(made), tmp_path / "t")
    text = (tmp_path / "t.md").read_text()
    assert "| mlp | 1 | 1/2 | 1.000 | 1.000 | 1.000 |" in text
    assert "| mlp | full | 0/1 missing | - | - | - |" in text
    assert balanced((tmp_path / "t.tex").read_text())
    assert "failed: " in text and "(edit: no memory)" in text and "1 settings contradict themselves" in text
    runs = [item for cell in json.loads((tmp_path / "t.provenance.json").read_text())["cells"] for item in cell["runs"]]
    assert [item["state"] for item in runs] == ["ok", "failed", "missing"]


def test_a_swept_key_without_a_place_is_told(tmp_path):
    with pytest.raises(UnlearnError, match=r"miss a swept key: tabular_small mlp 1 0\.1 seed 0"):
        grid(tmp_path / "s", [run(1, "0.1", 0, 40, 200), run(1, "0.1", 0, 40, 190)])
    with pytest.raises(UnlearnError, match="edit named in"):
        grid(tmp_path / "t", [run(1, "0.1", 0, 40, 200)], rows=["edit"], claims={})


def test_a_wrong_section_is_told_in_its_words():
    wrong = SPEC | {"rows": "method", "rule": {"measure": "skore", "margin": 0.01}}
    with pytest.raises(ConfigError) as told:
        table_spec(wrong | {"claims": {"low": SPEC["claims"]["low"] | {"share": 2}}})
    lines = "\n".join(told.value.problems)
    assert "table.claims.low.share: 2 given" in lines and "table.rows: 'method' given" in lines
    assert "table.rule.alpha: missing" in lines
    with pytest.raises(ConfigError, match="skore: no such name; did you mean score"):
        table_spec(SPEC | {"rule": {"measure": "skore", "margin": 0.01, "alpha": 0.05}})


def balanced(text):
    """Braces, environments and the cells of each row."""
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[&%$#_{}]", "", body)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert body.count(r"\begin{tabular}") == body.count(r"\end{tabular}") > 0
    for block in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", body, re.DOTALL):
        rows = [line for line in block[1].splitlines() if line.endswith(r"\\")]
        assert rows and all(len(re.findall(r"(?<!\\)&", line)) == len(block[0]) - 1 for line in rows)
    return True


CONF = """# @package _global_
# a table that is quick to make
defaults:
  - override /world: tabular_tiny
  - override /edit: remap
  - override /method: ft
  - override /metric: [fact_accuracy]
  - override /logger: none
edit:
  n: 4
method:
  steps: 8
gold:
  n: 0
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      method.scope: mlp
      method.adapter.rank: 2
      method.lr: 1e-3
      seed: 0,1
table:
  title: quick
  sweeps:
    lora: []
    full: [method.adapter.rank=0, "method.lr=3e-4,3e-3"]
  rows: [method.scope, method.adapter.rank]
  choose: method.lr
  columns: {success: fact_accuracy/edited, kept: fact_accuracy/retain/unseen}
  figure: {kind: ranks, good: success, kept: kept, x: method.adapter.rank, line: method.scope}
  rule: {measure: kept, margin: 0.01, alpha: 0.05}
  seconds: {train: 20, edit: 3}
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """`python scripts/table.py quick`, of a folder of our own."""
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "quick.yaml").write_text(CONF)
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNLEARN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("UNLEARN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    table = __import__("table")
    return lambda *words: table.main(["quick", f"--config-dir={tmp_path / 'conf'}", "trainer.progress=false", *words])


def test_a_dry_run_says_what_would_run_and_runs_nothing(script, tmp_path, capsys):
    assert script("--dry", "sweep.parallel=2") == 0
    out = capsys.readouterr().out
    assert out.count("  2 runs") == 1 and out.count("  4 runs") == 1
    assert "train: 2 of 2 missing, about 20.0 s each (measured, in the yaml)" in out
    assert "edit: 6 of 6 missing, about 3.0 s each (measured, in the yaml)" in out
    assert "about 0 minutes with 2 at a time (1 one after another)" in out
    assert {path.name for path in tmp_path.iterdir()} == {"conf"}


@pytest.mark.parametrize("name", ["behemoth_rank", "behemoth_rank_paper", "methods_grid"])
def test_a_shipped_table_has_a_place_for_every_swept_key(script, name):
    table = sys.modules["table"]
    spec = table.read(name, [])
    swept = OmegaConf.select(Composer(parse([], config_dir())).compose([f"experiment={name}"]), "hydra.sweeper.params")
    assert {*spec.keys, *([spec.choose] if spec.choose else []), "seed"} == set(swept)
    assert not spec.claims or {claim.share for claim in spec.claims.values()} == {0.1, 0.5}


def test_an_experiment_without_a_table_is_refused(script, capsys):
    table = sys.modules["table"]
    assert table.main(["scalability"]) == 2
    assert "experiment=scalability: has no section `table`" in capsys.readouterr().err


def test_a_table_waits_for_the_jobs_of_a_cluster(script, tmp_path, capsys, monkeypatch):
    """One of two runs has ended; nobody can be asked about the other's job, which has not begun."""
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = sweep(tmp_path / "s", [run(1, "0.1", 0, 40, 200), run(0, "0.1", 0, 40, 200)])
    for name in ("result.json", "items.parquet"):
        (folder / "1" / name).unlink()
    (folder / "1").rmdir()
    (folder / "jobs.json").write_text(json.dumps({"0": "7_0", "1": "7_1"}))
    table = sys.modules["table"]
    assert table.finish("quick", table_spec(SPEC), [folder], tmp_path) == 0
    assert "1 of 2 runs have not ended" in capsys.readouterr().out and not (tmp_path / "tables").exists()
    (folder / "jobs.json").unlink()
    assert table.finish("quick", table_spec(SPEC), [folder], tmp_path) == 1
    assert "| mlp | full | 0/1 missing |" in (tmp_path / "tables" / "quick.md").read_text()


@pytest.mark.slow
def test_from_an_experiment_to_its_files(script, tmp_path, capsys):
    assert script("sweep.parallel=1") == 0
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("result.json")]
    assert len(results) == 6 and {result["schema_version"] for result in results} == {SCHEMA_VERSION}
    provenance = json.loads((tmp_path / "tables" / "quick.provenance.json").read_text())
    rows = list(csv.DictReader((tmp_path / "tables" / "quick.csv").open()))
    assert len(rows) == 4
    for row in rows:
        (cell,) = [
            item for item in provenance["cells"] if item["cell"]["method.adapter.rank"] == row["method.adapter.rank"]
        ]
        inside = [item for item in cell["runs"] if item["in_table"]]
        values = []
        for item in inside:
            result = json.loads((Path(item["folder"]) / "result.json").read_text())
            assert result["stages"]["edit"]["digest"] == item["digests"]["edit"]
            values.append(result["metrics"][row["metric"]]["value"])
        assert float(row["mean"]) == pytest.approx(np.mean(values)) and int(row["seeds"]) == len(values) == 2
        half = 12.706204736 * np.std(values, ddof=1) / np.sqrt(2)  # Student's t with one degree
        assert float(row["high"]) - float(row["mean"]) == pytest.approx(half, abs=1e-9)
    assert balanced((tmp_path / "tables" / "quick.tex").read_text())
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".svg", ".png"}
    before = {path: path.stat().st_mtime for path in (tmp_path / "cache" / "edit").iterdir()}
    assert script("--dry") == 0 and "edit: 6, all in the cache" in capsys.readouterr().out
    assert script("sweep.parallel=1") == 0
    assert {path: path.stat().st_mtime for path in (tmp_path / "cache" / "edit").iterdir()} == before
