"""Results of OpenUnlearning beside ours: good, damaged and unknown ones, in small files of its layout."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
from experiments import quick
from pyarrow import csv, parquet

from unlearn_cli.exchange.open_unlearning import SAME, read_rows
from unlearn_cli.pipeline import run

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from collect import collect, main

TOFU = {
    "forget_Q_A_Prob": {
        "agg_value": 0.125,
        "value_by_index": {"0": {"prob": 0.25, "avg_loss": 1.4}, "1": {"prob": 0.0}},
    },
    "forget_Q_A_ROUGE": {"agg_value": 0.5, "value_by_index": {"0": {"rougeL_recall": 0.5, "generation": "a"}}},
    "forget_quality": {"agg_value": 1e-6},
    "model_utility": {"agg_value": 0.61},
    "extraction_strength": {"agg_value": 0.07, "value_by_index": {"0": {"score": 0.07}}},
    "mia_min_k": {"agg_value": 0.4, "auc": 0.4, "forget": {"value_by_index": {}}},
    "my_own_metric": {"agg_value": 3.0},
}


def written(folder, name, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def by_metric(rows):
    return {f"{row['metric']}/{row['split']}" if row["split"] else row["metric"]: row for row in rows}


def test_names_are_ours_where_the_numbers_are(tmp_path):
    folder = written(tmp_path / "tofu_NPO" / "evals", "TOFU_EVAL.json", TOFU)
    rows = by_metric(read_rows([tmp_path]))
    assert {name: row["value"] for name, row in rows.items()} == {
        "tofu_probability/forget": 0.125,
        "tofu_rouge/forget": 0.5,
        "forget_quality/pvalue": 1e-6,
        "openunlearning/model_utility": 0.61,
        "openunlearning/extraction_strength": 0.07,
        "mia_min_k/forget": 0.4,
        "openunlearning/my_own_metric": 3.0,
    }
    probability = rows["tofu_probability/forget"]
    assert (probability["n"], probability["source"], probability["label"]) == (2, "openunlearning", "tofu_NPO")
    assert (probability["run"], probability["name"]) == (str(folder), "TOFU")
    assert "end-of-text" in probability["reason"] and rows["tofu_rouge/forget"]["reason"] is None
    assert rows["openunlearning/model_utility"]["direction"] == "descriptive"


def test_muse_is_told_in_hundredths(tmp_path):
    written(
        tmp_path, "MUSE_EVAL.json", {"forget_knowmem_ROUGE": {"agg_value": 0.466}, "privleak": {"agg_value": -99.8}}
    )
    rows = by_metric(read_rows([tmp_path]))
    assert math.isclose(rows["muse_knowmem/forget"]["value"], 46.6)
    assert (rows["privleak"]["value"], rows["privleak"]["unit"]) == (-99.8, "%")


def test_a_summary_counts_only_where_it_is_alone(tmp_path):
    written(tmp_path / "both", "TOFU_EVAL.json", {"model_utility": {"agg_value": 0.5}})
    written(tmp_path / "both", "TOFU_SUMMARY.json", {"model_utility": 0.5})
    written(tmp_path / "alone", "TOFU_SUMMARY.json", {"model_utility": 0.25, "forget_Q_A_ROUGE": 0.75})
    assert [row["value"] for row in read_rows([tmp_path])] == [0.5, 0.25, 0.75]
    assert len(read_rows([tmp_path, tmp_path / "both"])) == 3


@pytest.mark.parametrize(
    "entry, told",
    [
        ({"agg_value": None}, "missing"),
        ({"value_by_index": {}}, "missing"),
        ({"agg_value": "0.5"}, "'0.5'"),
        ({"agg_value": float("nan")}, "nan"),
        ({"agg_value": True}, "True"),
        ([], "[]"),
    ],
)
def test_what_is_no_number_says_so(tmp_path, entry, told):
    written(tmp_path, "TOFU_EVAL.json", {"forget_quality": entry})
    (row,) = read_rows([tmp_path])
    assert row["status"] == "failed" and row["reason"] == f"forget_quality: agg_value is {told}, no number"
    assert "value" not in row


@pytest.mark.parametrize("content", ['{"model_utility": {"agg', "[1, 2]", "{}", "\x00"])
def test_a_damaged_file_keeps_a_row(tmp_path, content, capsys):
    written(tmp_path / "bad", "TOFU_EVAL.json", content)
    written(tmp_path / "good", "TOFU_EVAL.json", {"model_utility": {"agg_value": 0.5}})
    assert collect([tmp_path], tmp_path / "all.csv") == 0
    states = csv.read_csv(tmp_path / "all.csv").to_pydict()
    assert states["state"] == ["failed", "ok"] and states["value"] == [None, 0.5]
    assert "TOFU_EVAL.json" in states["error"][0] and "failed: bad: " in capsys.readouterr().err


def test_one_table_with_our_runs(tmp_path):
    run(quick(tmp_path), tmp_path / "runs" / "ours")
    written(tmp_path / "runs" / "theirs", "TOFU_EVAL.json", TOFU)
    assert collect([tmp_path / "runs"], tmp_path / "all.parquet") == 0
    table = parquet.read_table(tmp_path / "all.parquet").to_pydict()
    theirs = [i for i, source in enumerate(table["source"]) if source == "openunlearning"]
    assert len(theirs) == 7 and set(table["source"]) == {"unlearn", "openunlearning"}
    assert {table["metric"][i] for i in range(len(table["source"])) if i not in theirs} >= {"fact_accuracy", "cost"}
    assert {table["commit"][i] for i in theirs} == {None}


def test_no_result_at_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["collect.py", str(tmp_path)])
    assert main() == 1 and "no run under" in capsys.readouterr().err


def test_every_name_of_ours_is_a_metric_of_ours():
    from unlearn_cli.cli import config_dir

    known = {path.stem for path in (Path(config_dir()) / "metric").glob("*.yaml")}
    assert {same.key.partition("/")[0] for same in SAME.values()} <= known
