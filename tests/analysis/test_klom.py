"""KLoM of replicas: on margins of our choice, and from the cache of runs."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unlearn_cli.analysis.replicas import CEILING, FLOOR, SPLITS, Bench, lines
from unlearn_cli.cli import main
from unlearn_cli.errors import UnlearnError

SCRIPTS = Path(__file__).parents[2] / "scripts"
WORLD = ("subjects=20", "relations=2", "objects=5", "holdout_subjects=5", "grammar.templates=2", "grammar.heldout=1")
MODEL = ("hidden_size=32", "heads=2", "mlp_size=64")


def models(values):
    """Models whose margins [models, points] are the same in every split."""
    return {str(number): dict.fromkeys(SPLITS, row) for number, row in enumerate(values)}


def drawn(mean, n, seed):
    return np.random.default_rng(seed).normal(mean, 1, size=(n, 50))


def told(base, gold, **edited):
    found = lines(Bench("bench", models(base), models(gold), {name: models(values) for name, values in edited.items()}))
    return {line.models: line for line in found if line.split == "forget"}


def test_the_same_margins_are_0():
    gold = drawn(0, 40, 0)
    found = told(drawn(9, 20, 1), gold, same=gold[20:])
    assert (found["same"].mean, found["same"].median, found["same"].p95) == (0, 0, 0)
    assert found[FLOOR].mean > 0


def test_noop_is_the_ceiling_and_fresh_retraining_the_floor():
    """All in one bin that no gold model is in: every point is log 1e5; more of gold's own kind: as gold itself."""
    base = np.full((20, 50), 30.0)
    found = told(base, drawn(0, 40, 0), noop=base, retrain=drawn(0, 20, 2))
    for name in ("noop", CEILING):
        assert [getattr(found[name], kind) for kind in ("mean", "median", "p95")] == pytest.approx([np.log(1e5)] * 3)
    assert found["retrain"].mean == pytest.approx(found[FLOOR].mean, abs=0.4)
    assert found["retrain"].mean < 0.5 * found["noop"].mean


def test_all_have_as_many_models_as_the_floor():
    found = told(drawn(5, 8, 0), drawn(0, 9, 1), npo=drawn(1, 8, 2), ga=drawn(1, 8, 3))
    assert {line.n for line in found.values()} == {4}
    assert list(found) == [FLOOR, "npo", "ga", CEILING]
    found = told(drawn(5, 8, 0), drawn(0, 9, 1), npo=drawn(1, 3, 2))
    assert {line.n for line in found.values()} == {3}


def test_too_few_models_are_told():
    with pytest.raises(
        UnlearnError, match=r"bench: 1 of npo, 3 of gold; KLoM needs 2 edited and 4 gold models or more"
    ):
        told(drawn(5, 2, 0), drawn(0, 3, 1), npo=drawn(1, 1, 2))


def test_a_split_without_probes_has_no_line():
    nothing = {name: np.empty(0) for name in SPLITS}
    empty = {str(number): nothing | {"forget": np.arange(3.0)} for number in range(4)}
    found = lines(replace(Bench("bench"), base=empty, gold=empty, edited={"npo": empty}))
    assert {line.split for line in found} == {"forget"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two replicas with two golds each."""
    folder = tmp_path_factory.mktemp("klom")
    words = [
        *("world=tabular_tiny", "edit.n=4", "logger=none", "train.batch_size=20", "metric=[fact_accuracy]"),
        *(f"world.{word}" for word in WORLD),
        *(f"model.{word}" for word in MODEL),
        *("gold.n=2", "train.min_recall=0", "train.decay_passes=10", "train.max_passes=10"),
        *("evaluate.bootstrap_samples=10", "trainer.progress=false", "trainer.accelerator=cpu"),
        *("trainer.side_by_side=false", f"paths.cache={folder}/cache"),
    ]
    for replica in (0, 1):
        for name, method in (("noop", ["method=noop"]), ("fresh", ["method=retrain", "method.fresh=true"])):
            there = f"hydra.run.dir={folder}/runs/{name}-{replica}"
            assert main([*words, *method, f"replica={replica}", there]) == 0
    return folder


def test_from_runs_to_a_table(runs, tmp_path, monkeypatch, capsys):
    """The base is what noop left."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", ["klom.py", str(runs / "runs"), "--to", str(tmp_path / "out")])
    assert __import__("klom").main() == 0
    page = capsys.readouterr().out
    assert page == (tmp_path / "out" / "klom.md").read_text() + "\n"
    assert "KLoM: tabular_tiny · forget · tiny · tiny" in page and "noise of the bins" in page
    rows = [line.split(",") for line in (tmp_path / "out" / "klom.csv").read_text().splitlines()]
    found = {(row[1], row[2]): row[3:] for row in rows[1:]}
    assert rows[0] == ["bench", "split", "models", "n", "points", "mean", "median", "p95"]
    assert [split for split, models in found if models == "noop"] == ["forget", "retain/unseen", "holdout"]
    for split in SPLITS:
        assert found[split, "noop"] == found[split, CEILING]
        assert found[split, "noop"][0] == "2" and int(found[split, "noop"][1]) > 0
        assert found[split, "retrain fresh=true"][:2] == found[split, "noop"][:2]
    assert found["forget", FLOOR] != found["forget", CEILING]
