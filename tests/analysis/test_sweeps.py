"""From the folders of finished runs to tables and figures, by hand."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_result import entry
from made import FORGET, KEPT, readings, sweep

from unlearn_cli.analysis import boards
from unlearn_cli.analysis.compare import column
from unlearn_cli.analysis.fronts import Axes, fronts
from unlearn_cli.analysis.growth import curves, relapse, relapse_of, slope
from unlearn_cli.analysis.paired import sign_flip
from unlearn_cli.analysis.runs import duplicates, grouped, one_schema, sorted_runs
from unlearn_cli.analysis.tables import Table, Text, slug
from unlearn_cli.errors import UnlearnError
from unlearn_cli.sweep.collect import read_runs

SCRIPTS = Path(__file__).parents[2] / "scripts"


def runs_of(folder):
    return sorted_runs(read_runs([folder]))[0]


def rows_of(folder):
    return grouped(runs_of(folder), lambda run: run.row)


def script(name, *words, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    return __import__(name).main()


def test_a_run_is_placed_by_what_it_changed(tmp_path):
    words = ["experiment=x", "method=npo", "seed=2", "method.lr=1e-4", "edit.n=5", "train.lr=0.1", "paths.cache=/c"]
    run = runs_of(sweep(tmp_path / "s", [(words, readings(0, 1))]))[0]
    assert (run.row, run.seed, run.size) == ("npo lr=1e-4", 2, "edit.n=5")
    assert run.place == "tabular_small · forget · small · small train.lr=0.1 edit.n=5"


def test_the_same_run_twice_is_told(tmp_path):
    words = ["method=npo", "seed=1"]
    assert not duplicates(runs_of(sweep(tmp_path / "s", [(words, readings(0, 1))])))
    (told,) = duplicates(runs_of(sweep(tmp_path / "t", [(words, readings(0, 1))] * 2)))
    assert told.endswith("npo, seed 1: 2 runs")


def test_other_schemas_are_refused(tmp_path):
    folder = sweep(tmp_path / "s", [(["method=npo"], readings(0, 1)), (["method=ga"], readings(0, 1))])
    one_schema([folder])
    path = folder / "1" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 0}))
    with pytest.raises(UnlearnError, match=r"version 0 \(1 runs\), version 1 \(1 runs\)"):
        one_schema([folder])


def test_best_is_nearest_to_gold_not_lowest(tmp_path):
    """Gold 0.3: 0.25 is nearer than 0."""
    found = [(["method=npo"], readings(0.0, 0.9, 0.3)), (["method=ga"], readings(0.25, 0.5, 0.3))]
    rows = rows_of(sweep(tmp_path / "s", found))
    assert [cell.best for cell in column(rows, FORGET).values()] == [False, True]
    assert [cell.best for cell in column(rows, KEPT).values()] == [True, False]
    assert column(rows, "cost/seconds") == {}


def test_p_values_pair_items_by_subject_seed_and_split(tmp_path):
    """Two splits weigh the same whatever their sizes: subjects' sums are 1/4 + 1/8 twice, and 1/8 twice."""
    best = {"a/unseen": [1, 1], "b/unseen": [1, 1, 1, 1]}
    worst = {"a/unseen": [0, 0], "b/unseen": [0, 0, 0, 0]}
    found = [
        (["method=npo"], readings(0, 1.0) | {"items": best}),
        (["method=ga"], readings(0, 0.0) | {"items": worst}),
        (["method=idk"], readings(0, 0.5) | {"items": {"a/unseen": [1, 1], "b/unseen": [1, 1, 1, 0]}}),
    ]
    cells = column(rows_of(sweep(tmp_path / "s", found)), KEPT)
    assert sign_flip([0.375, 0.375, 0.125, 0.125]) == 2 / 16
    assert cells["ga"].p == pytest.approx(min(1, 2 * 2 / 16))  # Holm over two
    assert cells["idk"].p == 1
    assert (cells["npo"].p, cells["ga"].paired, cells["idk"].as_good) == (None, "items", True)


def test_without_items_few_seeds_show_nothing(tmp_path):
    def both(n):
        return [
            ([f"method={method}", f"seed={seed}"], readings(0, value))
            for method, value in (("npo", 0.9), ("ga", 0.8))
            for seed in range(n)
        ]

    few = column(rows_of(sweep(tmp_path / "few", both(5))), KEPT)["ga"]
    assert (few.p, few.as_good) == (None, False)
    enough = column(rows_of(sweep(tmp_path / "six", both(6))), KEPT)["ga"]
    assert (enough.p, enough.paired, enough.as_good) == (2 / 64, "seeds", False)
    assert enough.summary.n == 6


def test_front_of_a_method_by_hand(tmp_path):
    """Gold at 0.2: forgetting (1 - k) / 0.8. Points (0.5, 1) and (1, 0.6): area 0.5 + 0.5 x 0.6, in both seeds."""
    found = [
        (["method=npo", f"seed={seed}", f"method.steps={steps}"], readings(forget, kept, 0.2))
        for seed in (0, 1)
        for steps, forget, kept in ((10, 0.6, 1.0), (20, 0.2, 0.6), (30, 0.2, 0.5))
    ]
    (front,), left = fronts(runs_of(sweep(tmp_path / "s", found)), Axes())
    assert front.points.tolist() == pytest.approx(np.array([(0.5, 1), (1, 0.6), (1, 0.5)]))
    assert [front.settings[number] for number in front.front] == ["steps=10", "steps=20"]
    assert (front.hypervolume.mean, front.hypervolume.n, front.utility) == (pytest.approx(0.8), 2, pytest.approx(0.6))
    assert front.forgetting == pytest.approx(0.5)
    # x = 0.4, 0.8, 0.8 with y = 1, 0.6, 0.5: (0, 1), (0.4, 1), (0.8, 0.55), (1, 0)
    assert front.area.mean == pytest.approx(0.4 + 0.4 * 0.775 + 0.2 * 0.275)
    assert left == []


def test_a_run_without_gold_has_no_scores(tmp_path):
    values = readings(0.1, 0.9)
    values[FORGET]["gold"] = None
    found, left = fronts(runs_of(sweep(tmp_path / "s", [(["method=npo"], values)])), Axes())
    assert (found, left) == ([], ["npo seed=0"])


def test_slope_is_per_natural_logarithm():
    assert slope([1, 10, 100], [1.0, 0.8, 0.6]) == pytest.approx(-0.2 / np.log(10))
    assert slope([5, 5], [1.0, 0.5]) is None


def test_curves_over_the_number_of_facts(tmp_path):
    runs = []
    for facts, kept in ((1, 1.0), (10, 0.9), (100, 0.8)):
        words = ["method=npo", f"edit.n={facts}"]
        folder = sweep(tmp_path / str(facts), [(words, readings(0, kept))], request={"op": "forget", "facts": facts})
        runs += runs_of(folder)
    (curve,) = curves(runs, KEPT)
    assert (curve.name, curve.sizes, curve.largest.mean) == ("npo", [1, 10, 100], 0.8)
    assert curve.slope.mean == pytest.approx(-0.1 / np.log(10))
    assert curves(runs[:1], KEPT) == []


def test_relapse_by_hand(tmp_path):
    """Facts 0 and 1 came first and are known by 1 and 1/2, facts 2 and 3 last by 0: 3/4."""
    values = [1, 1, 1, 0, 0, 0, 0, 0]
    assert relapse(np.array(values, dtype=float), np.repeat(np.arange(4), 2)) == 0.75
    assert relapse(np.ones(3), np.arange(3)) is None
    words = ["method=npo", "edit.schedule=sequential"]
    (run,) = runs_of(sweep(tmp_path / "s", [(words, readings(0, 1) | {"items": {"forget": [1, 0, 0, 0]}})]))
    assert relapse_of(run, FORGET) == 0.5


def test_tables_escape_what_markdown_and_latex_read():
    table = Table("t", ["a_b", "p|q"], [[Text("50 %"), Text("1", bold=True)]], ["so it is"])
    assert table.markdown().splitlines()[2:5] == ["| a_b | p\\|q |", "|---|---|", "| 50 % | **1** |"]
    assert r"50 \% & \textbf{1} \\" in table.latex()
    assert r"a\_b & p|q \\" in table.latex()


def test_analyse_writes_tables_and_names_what_is_left_out(tmp_path, monkeypatch, capsys):
    found = [
        ([f"method={method}", f"seed={seed}", f"method.steps={steps}"], readings(forget, kept, 0.1))
        for method, steps, forget, kept in (("npo", 1, 0.5, 0.9), ("npo", 2, 0.1, 0.8), ("ga", 1, 0.4, 0.5))
        for seed in (0, 1)
    ]
    folder = sweep(tmp_path / "s", found)
    broken = json.loads((folder / "5" / "result.json").read_text())
    broken |= {"status": "failed", "exit_status": 1, "error": {"stage": "edit", "type": "E", "message": "no luck"}}
    (folder / "5" / "result.json").write_text(json.dumps(broken))
    assert script("analyse", folder, "--to", tmp_path / "out", "--no-figures", monkeypatch=monkeypatch) == 0
    told = capsys.readouterr()
    assert "left out: failed: method=ga seed=1 method.steps=1: edit: no luck" in told.err
    assert told.out.splitlines()[-1] == str(tmp_path / "out")
    table = (tmp_path / "out" / "methods.md").read_text()
    assert "| npo steps=2 | 2 | **0.100 ± 0.000** |" in table
    assert "| gold | 2 | 0.100 ± 0.000 | 1.000 ± 0.000 |" in table
    assert "| npo | 2 | 2 | **" in (tmp_path / "out" / "fronts.md").read_text()
    assert not list((tmp_path / "out").glob("*.png"))
    assert not (tmp_path / "out" / "growth.md").exists()


def test_figures(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    found = [
        (["method=npo", f"method.steps={steps}"], readings(forget, kept, 0.1))
        for steps, forget, kept in ((1, 0.5, 0.9), (2, 0.1, 0.8))
    ]
    folder = sweep(tmp_path / "s", found)
    assert script("analyse", folder, "--to", tmp_path / "out", monkeypatch=monkeypatch) == 0
    (picture,) = (tmp_path / "out").glob("pareto-*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in picture.with_suffix(".svg").read_text()


def test_paths_that_were_asked(tmp_path, monkeypatch):
    folder = sweep(tmp_path / "s", [(["method=npo", "method.save_every=10"], readings(0.02, 0.9, 0.0))])
    lines = [f"model,request,step,{FORGET},{KEPT}", "base,,0,1.0,1.0"]
    lines += [f"path,,{step},{known},{kept}" for step, known, kept in ((10, 0.01, 0.95), (20, 0, 0.9), (30, 0, 0.8))]
    (folder / "0" / "path.csv").write_text("\n".join([*lines, "gold,,,0.0,1.0"]) + "\n")
    assert script("analyse", folder, "--to", tmp_path / "out", "--no-figures", monkeypatch=monkeypatch) == 0
    assert "| 10 (asked every 10) | 0.950 | > 30 |" in (tmp_path / "out" / "paths.md").read_text()


def pools(tmp_path):
    """Three that know, three that do not; `says_nothing` is the same everywhere."""
    found = []
    for method, known in (("noop", 1.0), ("retrain", 0.0)):
        for seed in range(3):
            metrics = readings(known, 1.0) | {
                "answer_rank/forget": readings(9 - 8 * known + seed, 1.0)[FORGET],
                "says_nothing/forget": readings(0.5, 1.0)[FORGET],
            }
            fresh = ["method.fresh=true"] if method == "retrain" else []
            found.append(([f"method={method}", f"seed={seed}", *fresh], metrics))
    return sweep(tmp_path / "s", found)


def test_metrics_on_trial(tmp_path, monkeypatch, capsys):
    assert script("meta_metrics", pools(tmp_path), "--to", tmp_path / "out", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().err == ""
    rows = (tmp_path / "out" / "meta.md").read_text()
    # three above three: 2 of 20 labellings
    assert "| fact_accuracy/forget | ≥ 0.5 | 1.00 |" in rows
    assert "| answer_rank/forget | ≤ 6 | 1.00 | 0.1 | 0 | - |" in rows
    assert "| says_nothing/forget | never | 0.50 | 1 | 0 |" in rows
    assert "retain" not in rows.split("\n\n")[1]


def test_a_trial_needs_both_pools(tmp_path, monkeypatch, capsys):
    folder = sweep(tmp_path / "s", [(["method=noop", f"seed={seed}"], readings(1, 1)) for seed in (0, 1)])
    assert script("meta_metrics", folder, "--to", tmp_path / "out", monkeypatch=monkeypatch) == 1
    assert "2 runs of method=noop and 0 of method=retrain" in capsys.readouterr().err


def board(known, kept, gold_known=0.2):
    """All parts of memorization at `known`, utility at `kept`, privacy at 0.5."""
    values = {key: entry(known, 1.0, gold_known) for key in boards.MEMORIZATION}
    return values | {key: entry(kept, 1.0, 1.0) for key in boards.UTILITY} | {boards.PRIVACY: entry(0.5, 0.0, 1.0)}


def test_leaderboard_of_runs(tmp_path, monkeypatch):
    """Memorization 0.5, privacy 0.5, utility capped at 1: HM 0.6. Gold: 0.8, 1, 1. The base knows all."""
    folder = sweep(tmp_path / "s", [(["method=npo"], board(0.5, 1.2)), (["method=ga"], readings(0.0, 1.0))])
    assert script("analyse", folder, "--to", tmp_path / "out", "--no-figures", monkeypatch=monkeypatch) == 0
    lines = (tmp_path / "out" / "leaderboard.md").read_text().splitlines()
    assert lines[4:7] == [
        "| base | 0.000 | 0.000 | 1.000 | 0.000 |",
        "| gold | 0.800 | 1.000 | 1.000 | 0.923 |",
        "| npo | 0.500 | 0.500 | 1.000 | 0.600 |",
    ]
    assert not any(line.startswith("| ga") for line in lines)


def test_without_a_gold_the_leaderboard_has_no_privacy(tmp_path):
    values = board(0.5, 0.5)
    del values[boards.PRIVACY]
    (run,) = runs_of(sweep(tmp_path / "s", [(["method=npo"], values)]))
    assert boards.score(run).aggregate == pytest.approx(0.5)


def test_a_name_of_a_file_is_never_too_long():
    short, long, other = "lr=0.1, seed 0", "x=1 " * 100, "x=1 " * 101
    assert slug(short) == "lr=0.1-seed-0"
    assert len(slug(long)) < 120 and slug(long) != slug(other)
