"""`result.json`: what is stored, that it is whole or absent, and that what is not sound is refused."""

from __future__ import annotations

import copy
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_result import fake_result
from hypothesis import given
from hypothesis import strategies as st
from subprocess_env import ENVIRONMENT

from unlearn_cli.cache import Artifact
from unlearn_cli.errors import UnlearnError
from unlearn_cli.evaluation import MetricValue, ProbeSet, Reading, Split
from unlearn_cli.result_schema import SCHEMA, validate
from unlearn_cli.results import Result, entry, write_items


def test_an_entry_holds_the_edited_value_and_the_others_beside_it():
    value = MetricValue(Reading(0.25, 8, (0.1, 0.4)), "share", "to_gold", base=Reading(1.0, 8), gold=None)
    assert entry(value) == {
        "value": 0.25, "n": 8, "ci": [0.1, 0.4], "unit": "share", "direction": "to_gold", "status": "ok",
        "reason": None, "base": {"value": 1.0, "ci": None, "n": 8}, "gold": None,
    }  # fmt: skip


def test_an_entry_is_made_of_plain_numbers():
    made = entry(MetricValue(Reading(np.float32(0.5), np.int64(3), (np.float64(0), np.float64(1))), "s", "lower"))
    assert [type(made[key]) for key in ("value", "n")] == [float, int]
    assert json.loads(json.dumps(made))["ci"] == [0.0, 1.0]


def test_a_skipped_entry_has_a_reason_and_no_number():
    made = entry(MetricValue(None, "nats", "lower", status="skipped", reason="there is no gold model"))
    assert (made["value"], made["n"], made["ci"]) == (None, None, None)
    assert (made["status"], made["reason"]) == ("skipped", "there is no gold model")


@pytest.mark.parametrize(
    ("readings", "named"),
    [
        ({"edited": Reading(math.nan, 3)}, "value"),
        ({"edited": Reading(1.0, 3, (0.0, math.inf))}, "value"),
        ({"edited": Reading(1.0, 3), "base": Reading(-math.inf, 3)}, "base"),
        ({"edited": Reading(1.0, 3), "gold": Reading(1.0, 3, (math.nan, 1.0))}, "gold"),
    ],
)
def test_a_number_that_is_not_finite_is_a_failed_metric(readings: dict[str, Reading], named: str):
    made = entry(MetricValue(unit="share", direction="lower", **readings))
    assert (made["status"], made["reason"]) == ("failed", f"not a finite number: {named}")
    assert [made[key] for key in ("value", "n", "ci", "base", "gold")] == [None] * 5


def test_what_is_written_is_read_back(tmp_path: Path):
    result = fake_result(tmp_path, name="table 1", notes=["npo forgets the old object"])
    result.write(tmp_path / "result.json")
    assert Result.read(tmp_path / "result.json") == result
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_moved_run_folder_is_read_where_it_is(tmp_path: Path):
    (tmp_path / "a").mkdir()
    fake_result(tmp_path / "a").write(tmp_path / "a" / "result.json")
    (tmp_path / "a").rename(tmp_path / "b")
    assert Result.read(tmp_path / "b" / "result.json").run_dir == tmp_path / "b"


def test_exit_statuses(tmp_path: Path):
    path = tmp_path / "result.json"
    assert fake_result().exit_status == 0
    assert Result(choices={}, seed=0, run_dir=tmp_path).exit_status == 1  # until it is known to be better
    for exit_status, name in ((130, "SIGINT"), (143, "SIGTERM")):
        result = fake_result(tmp_path, stage="train")
        result.interrupt(exit_status)
        result.write(path)
        read = Result.read(path)
        assert (read.status, read.exit_status) == ("interrupted", exit_status)
        assert read.error == {"stage": "train", "type": "Interrupted", "message": name}


def test_a_failure_names_its_stage(tmp_path: Path):
    result = fake_result(tmp_path, stage="edit")
    result.fail(UnlearnError("the loss is nan"))
    assert result.error == {"stage": "edit", "type": "UnlearnError", "message": "the loss is nan"}
    assert (result.status, result.exit_status) == ("failed", 1)
    assert validate(json.loads(json.dumps(result.to_dict()))) == []


def artifact(digest: str, cached: bool = False) -> Artifact:
    return Artifact(Path("/cache") / digest, cached, {"digest": digest, "seconds": 1.5, "peak_memory_bytes": 1000})


def test_a_stage_keeps_what_its_artifact_says(tmp_path: Path):
    result = Result(choices={}, seed=0, run_dir=tmp_path)
    result.add_stage("evaluate", artifact("t", cached=True), predictions=["b", "e"], observations=[])
    made = {"digest": "t", "cached": True, "seconds": 1.5, "peak_memory_bytes": 1000, "path": "/cache/t"}
    assert result.stages == {"evaluate": made | {"predictions": ["b", "e"], "observations": []}}


def test_gold_took_what_all_its_members_took(tmp_path: Path):
    result = Result(choices={}, seed=0, run_dir=tmp_path)
    for member, cached in ((2, True), (0, True), (1, False)):
        result.add_gold(artifact(f"g{member}", cached=True), member, cached=cached)
    gold = result.stages["gold"]
    assert [(m["member"], m["digest"], m["cached"]) for m in gold["members"]] == [
        (0, "g0", True),
        (1, "g1", False),
        (2, "g2", True),
    ]
    assert (gold["digest"], gold["path"], gold["cached"]) == ("g0", "/cache/g0", False)
    assert (gold["seconds"], gold["peak_memory_bytes"]) == (4.5, 1000)
    result.fail(UnlearnError("later"))
    assert validate(json.loads(json.dumps(result.to_dict()))) == []


def test_flat_values_name_their_role():
    flat = fake_result().flat()
    assert flat["fact_accuracy/forget"] == 0.04
    assert (flat["fact_accuracy/forget/base"], flat["fact_accuracy/forget/gold"]) == (1, 0.06)
    assert "weight_delta_norms/relative/base" not in flat  # an edit's own number
    assert not any(key.startswith(("probe_attack", "fact_accuracy/dep_keep")) for key in flat)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_result_with_nan_is_not_written(tmp_path: Path, number: float):
    path = tmp_path / "result.json"
    fake_result(tmp_path, seed=1).write(path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        fake_result(tmp_path, provenance={"x": number}).write(path)
    assert Result.read(path).seed == 1
    assert [item.name for item in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.faults
def test_a_kill_while_writing_leaves_a_whole_result(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from fake_result import fake_result\n"
        "seed = 0\n"
        "while seed := seed + 1: fake_result(Path(sys.argv[1]), seed=seed).write(Path(sys.argv[1], 'result.json'))"
    )
    for wait in (0.0, 0.003, 0.011):
        writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=ENVIRONMENT)
        path = tmp_path / "result.json"
        while not path.exists():
            assert writer.poll() is None
            time.sleep(0.001)
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert Result.read(path).seed >= 1
        path.unlink()


@pytest.mark.faults
def test_a_full_disk_keeps_the_old_result(tmp_path: Path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "none", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        path = tmp_path / "result.json"
        fake_result(tmp_path, seed=1).write(path)
        with pytest.raises(OSError, match="No space left"):
            fake_result(tmp_path, notes=["x" * 60_000]).write(path)
        assert Result.read(path).seed == 1
        assert [item.name for item in tmp_path.iterdir()] == ["result.json"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_torn_result_is_refused(tmp_path_factory: pytest.TempPathFactory, share: float):
    path = tmp_path_factory.getbasetemp() / "torn.json"
    text = json.dumps(fake_result().to_dict())
    path.write_text(text[: int(share * len(text))])
    with pytest.raises(UnlearnError, match=r"torn\.json cannot be read as JSON"):
        Result.read(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"schema_version": 2}', "has schema version 2; this version of unlearn reads 1"),
        ("{}", "is no result: it has no schema_version"),
        ("[1]", "is no result: it has no schema_version"),
        ('{"schema_version": 1}', r"is not a sound result: result\.status is missing \(and 10 more\)"),
        ("\x00", "cannot be read as JSON"),
    ],
)
def test_what_is_no_result_is_refused_in_one_sentence(tmp_path: Path, text: str, told: str):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(UnlearnError, match=told):
        Result.read(tmp_path / "result.json")


def test_a_missing_result_is_told(tmp_path: Path):
    with pytest.raises(UnlearnError, match=r"result\.json does not exist"):
        Result.read(tmp_path / "result.json")


FORGET = ("metrics", "fact_accuracy/forget")
MUTATIONS: list[tuple[tuple[Any, ...], Any, str]] = [
    (("status",), "done", "result.status is 'done', not one of ok, failed, interrupted"),
    (("status",), "failed", "result.exit_status is 0, but result.status failed"),
    (("error",), {"stage": None, "type": "E", "message": "m"}, "result.error is set, but result.status ok"),
    (("seed",), True, "result.seed is True, not of type integer"),
    (("seed",), -1, "result.seed is -1, below 0"),
    (("schema_version",), True, "result.schema_version is True, not one of 1"),
    (("extra",), 1, "result.extra does not belong there"),
    (("choices", "world"), None, "result.choices.world is None, not of type string"),
    (("notes",), ["a", 1], "result.notes[1] is 1, not of type string"),
    ((*FORGET, "value"), math.nan, "result.metrics.fact_accuracy/forget.value is nan, not of type number"),
    ((*FORGET, "value"), "0.04", "result.metrics.fact_accuracy/forget.value is '0.04', not of type number"),
    ((*FORGET, "value"), None, "result.metrics.fact_accuracy/forget is ok, but its value is None and its n 150"),
    ((*FORGET, "ci"), [0.1], "result.metrics.fact_accuracy/forget.ci has 1 items"),
    ((*FORGET, "ci"), [0.9, 0.1], "[0.9, 0.1], which ends before it begins"),
    ((*FORGET, "base", "n"), 1.5, "result.metrics.fact_accuracy/forget.base.n is 1.5, not of type integer"),
    ((*FORGET, "direction"), "up", "is 'up', not one of higher, lower, to_gold, descriptive"),
    ((*FORGET, "gold"), {"value": 1.0}, "result.metrics.fact_accuracy/forget.gold.ci is missing"),
    (("metrics", "probe_attack", "reason"), None, "result.metrics.probe_attack is failed without a reason"),
    (("stages", "predict"), {}, "result.stages.predict does not belong there"),
    (("stages", "train", "seconds"), -0.1, "result.stages.train.seconds is -0.1, below 0"),
    (("stages", "gold", "members"), [], "result.stages.gold.members has 0 items"),
]


@pytest.mark.parametrize(("place", "value", "told"), MUTATIONS, ids=[f"{'.'.join(p)}={v}" for p, v, _ in MUTATIONS])
def test_a_mutated_result_is_refused(place: tuple[str, ...], value: Any, told: str):
    stored = copy.deepcopy(fake_result().to_dict())
    inner = stored
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert told in validate(stored)[0]


def keys(schema: Any, place: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where the schema demands a key of a result that has everything."""
    inner = [(*place, key) for key in schema.get("required", ())]
    return inner + [k for name, item in schema.get("properties", {}).items() for k in keys(item, (*place, name))]


@pytest.mark.parametrize("place", keys(SCHEMA), ids=".".join)
def test_a_missing_key_is_named(place: tuple[str, ...]):
    stored = copy.deepcopy(fake_result().to_dict())
    for name in ("prepare", "corrupt"):  # only some methods and edits have one
        stored["stages"][name] = copy.deepcopy(stored["stages"]["edit"])
    inner = stored
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    assert validate(stored) == [f"result.{'.'.join(place)} is missing"]


def test_a_sound_result_has_no_problem():
    assert validate(json.loads(json.dumps(fake_result().to_dict()))) == []
    assert validate(None) == ["result is None, not of type object"]


def probes() -> ProbeSet:
    splits = {
        "forget": Split("forget", np.array([2, 0]), np.array([5, 6]), "to_gold"),
        "unrelated/seen": Split("unrelated/seen", np.array([1]), np.array([7]), "higher"),
    }
    return ProbeSet(np.array([10, 11, 12]), np.array([0, 1, 2]), np.array([4, 4, 3]), 9, splits)


def test_items_are_one_row_each_with_their_probe(tmp_path: Path):
    from pyarrow import parquet

    reading = Reading(0.5, 2)
    items = {"edited": np.array([0.25, 0.75]), "base": np.array([1.0, 0.5])}
    metrics = {
        "distance/kl/forget": MetricValue(reading, "nats", "lower", items=items, rows=np.array([2, 0])),
        "rank/unrelated/seen": MetricValue(
            reading, "rank", "lower", items={"gold": np.array([3.0])}, rows=np.array([1])
        ),
        "mine": MetricValue(reading, "s", "lower", items={"edited": np.array([9])}, rows=np.array([0])),
        "cost/seconds": MetricValue(reading, "s", "lower"),
    }
    write_items(metrics, probes(), tmp_path / "items.parquet")
    table = parquet.read_table(tmp_path / "items.parquet")
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("distance/kl", "forget", "edited", 12, 2, 3, 0.25),
        ("distance/kl", "forget", "edited", 10, 0, 4, 0.75),
        ("distance/kl", "forget", "base", 12, 2, 3, 1.0),
        ("distance/kl", "forget", "base", 10, 0, 4, 0.5),
        ("rank", "unrelated/seen", "gold", 11, 1, 4, 3.0),
        ("mine", None, "edited", 10, 0, 4, 9.0),
    ]
    assert table.column_names == ["metric", "split", "role", "fact", "template", "subject", "value"]
    assert str(table.schema.field("metric").type) == "dictionary<values=string, indices=int32, ordered=0>"
    column = parquet.ParquetFile(tmp_path / "items.parquet").metadata.row_group(0).column(0)
    assert column.compression == "ZSTD" and "RLE_DICTIONARY" in column.encodings


def test_no_items_are_an_empty_table(tmp_path: Path):
    from pyarrow import parquet

    write_items({}, probes(), tmp_path / "items.parquet")
    assert parquet.read_table(tmp_path / "items.parquet").shape == (0, 7)


def test_nothing_heavy_is_imported_to_make_and_print_a_result():
    code = (
        "import sys, unlearn_cli.tracking, unlearn_cli.provenance; from fake_result import fake_result\n"
        "unlearn_cli.provenance.collect([]); fake_result().table()\n"
        "print(*sorted({'torch', 'lightning', 'transformers', 'wandb', 'pyarrow', 'pandas'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert ended.stdout == "\n"
