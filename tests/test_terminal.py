"""The table that ends a run reads well at 80 columns, in a pipe and on a terminal, and never cuts a number."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fake_result import entry, fake_result, share, skipped
from hypothesis import given
from hypothesis import strategies as st
from subprocess_env import ENVIRONMENT

from unlearn_cli.errors import UnlearnError
from unlearn_cli.report.terminal import _number
from unlearn_cli.results import Result

EXPECTED = """\
world tabular_small · edit forget · model small · method npo · seed 0
request: forget 50 facts

fact_accuracy          base               edited             gold
forget →gold           1.00 [0.98, 1.00]  0.04 [0.01, 0.10]  0.06 [0.02, 0.12]
edited_para →gold      0.98 [0.95, 1.00]  0.12 [0.06, 0.20]  0.06 [0.01, 0.14]
retain/unseen ↑        1.00 [0.99, 1.00]  0.78 [0.73, 0.83]  1.00 [0.99, 1.00]
same_subject/unseen ↑  1.00 [0.97, 1.00]  0.61 [0.52, 0.70]  1.00 [0.98, 1.00]
unrelated/unseen ↑     1.00 [0.99, 1.00]  0.95 [0.92, 0.97]  1.00 [0.99, 1.00]
holdout →gold          0.05 [0.02, 0.10]  0.04 [0.01, 0.09]  0.05 [0.02, 0.10]

                        base    edited      gold
answer_probability
  forget →gold         0.981   0.00123    0.0151  probability
answer_rank
  forget →gold          1.00      31.5      12.0
distance_to_gold
  kl/forget ↓           5.43      1.20     0.310  nats
weight_delta_norms
  relative                 -    0.0123         -  ratio
cost
  seconds ↓             14.2      3.08      21.3  s
  peak_memory ↓       990 MB   1.23 GB    990 MB
  steps ↓              1,500       350     1,500
  flops ↓           4.75e+13  1.20e+13  4.70e+13

failed: probe_attack (ZeroDivisionError: division by zero)
skipped: same_value_new/unseen (the request names no new object);
  phrasing_generalization/form_ratio (the edit changed trained templates by less
  than 0.01)
7 more metrics are in result.json
stages: train 14.2 s (cached), gold 3 x 21.3 s, edit 3.1 s, evaluate 0.8 s"""


def squeezed(text: str) -> str:
    """Without the column widths, which tests of content do not fix."""
    return re.sub(r"  +", "  ", text)


def test_the_whole_table():
    assert fake_result().table(80) == EXPECTED


def test_it_fits_80_columns_as_plain_text():
    lines = fake_result().table(80).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("\x1b" in line or line != line.rstrip() for line in lines)


def test_the_longest_split_fits_80_columns():
    metrics = {"fact_accuracy/same_value_new/unseen": fake_result().metrics["fact_accuracy/unrelated/unseen"]}
    assert max(map(len, fake_result(metrics=metrics).table(80).splitlines())) == 80


def test_a_narrow_terminal_cuts_no_number():
    wide, narrow = (fake_result().table(width).splitlines() for width in (80, 30))
    rows = [line for line in wide[3:] if re.search(r"  +\S", line.lstrip())]
    assert len(rows) == 16
    assert set(rows) <= set(narrow)


def test_a_wide_terminal_has_three_decimals():
    row = "same_subject/unseen ↑  1.000 [0.970, 1.000]  0.613 [0.520, 0.700]  0.997 [0.980, 1.000]"
    assert row in fake_result().table(100).splitlines()


@given(st.lists(st.floats(0, 1), min_size=9, max_size=9), st.integers(20, 200))
def test_every_value_stands_whole_in_its_row(x: list[float], width: int):
    cells = [tuple(x[i : i + 3]) for i in (0, 3, 6)]
    metrics = {"fact_accuracy/holdout": share("to_gold", base=cells[0], edited=cells[1], gold=cells[2])}
    row = next(line for line in fake_result(metrics=metrics).table(width).splitlines() if line.startswith("holdout"))
    places = 3 if width >= 92 else 2
    expected = ["{:.{p}f} [{:.{p}f}, {:.{p}f}]".format(*cell, p=places) for cell in cells]
    assert re.split(r"  +", row) == ["holdout →gold", *expected]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "share", "0"),
        (1.0, "share", "1.00"),
        (0.5, "share", "0.500"),
        (0.0123456, "share", "0.0123"),
        (0.000987, "weight", "9.87e-04"),
        (-0.00962, "share", "-0.00962"),
        (9.996, "nats", "10.0"),
        (99.96, "s", "100"),
        (999.4, "s", "999"),
        (999.96, "s", "1,000"),
        (123456.7, "s", "123,457"),
        (5.0, "steps", "5"),
        (3.0, "rank of O", "3.00"),
        (32.0, "rank", "32"),
        (12.0, "rank of O", "12.0"),
        (1500.0, "steps", "1,500"),
        (531456, "weights", "531,456"),
        (14067712, "weights", "1.41e+07"),
        (512, "bytes", "512 B"),
        (1.2345e9, "bytes", "1.23 GB"),
        (999.6e6, "bytes", "1 GB"),
    ],
)
def test_three_significant_digits(value: float, unit: str, text: str):
    assert _number({"value": value}, unit) == text


@given(st.floats(-1e30, 1e30), st.sampled_from(["share", "steps", "s"]))
def test_a_number_keeps_its_value_to_three_digits(value: float, unit: str):
    assert float(_number({"value": value}, unit).replace(",", "")) == pytest.approx(value, rel=0.006, abs=0)


def test_without_gold_its_column_is_gone():
    metrics = {key: made | {"gold": None} for key, made in fake_result().metrics.items()}
    text = fake_result(metrics=metrics).table(80)
    assert squeezed(text).splitlines()[3] == "fact_accuracy  base  edited"
    assert "forget →gold  1.00 [0.98, 1.00]  0.04 [0.01, 0.10]\n" in squeezed(text)


def test_a_remap_shows_the_new_object_beside_the_old():
    text = fake_result(request={"op": "remap", "facts": 8}, notes=["npo on a remap forgets the old object"]).table(80)
    assert "request: remap 8 facts" in text
    assert "\nedited →gold" in text and "\nedited →gold" not in fake_result().table(80)
    assert "\nnote: npo on a remap forgets the old object\n" in text


def test_layers_and_other_splits_stay_in_the_file():
    text = fake_result().table(80)
    assert "layer/0" not in text and "js/forget" not in text and "0.97" not in text.split("\n\n")[2]


def test_a_metric_of_someone_else_is_shown():
    text = fake_result(metrics={"my_metric/anything": entry(0.7, unit="bits"), "alone": entry(2.5)}).table(80)
    assert "my_metric\n  anything ↓" in text
    assert "alone ↓" in text and "2.50" in text


def test_equal_reasons_are_told_once():
    metrics = {key: skipped("there is no gold model: gold.n=0") for key in ("distance_to_gold", "gold_agreement")}
    line = "skipped: distance_to_gold, gold_agreement (there is no gold model: gold.n=0)"
    assert line in fake_result(metrics=metrics).table(80)


def test_brackets_in_a_sentence_are_no_markup():
    assert "note: give facts=[bold] or :smile:" in fake_result(notes=["give facts=[bold] or :smile:"]).table(80)


def test_a_run_that_failed_early_says_where(tmp_path: Path):
    result = Result(choices={"world": "tabular_small", "method": "npo"}, seed=3, run_dir=tmp_path, stage="train")
    result.fail(UnlearnError("train: the loss is nan at step 7; lower the learning rate"))
    assert result.table(80) == (
        "world tabular_small · method npo · seed 3\n\n"
        "failed in train: train: the loss is nan at step 7; lower the learning rate"
    )


PRINT = "from fake_result import fake_result; print(fake_result().table())"


def printed(**environment: str) -> str:
    """What a pipe gets."""
    command = [sys.executable, "-c", PRINT]
    return subprocess.run(command, env=ENVIRONMENT | environment, capture_output=True, check=True).stdout.decode()


def test_a_pipe_gets_no_colour():
    assert printed(COLUMNS="80", TERM="xterm-256color") == EXPECTED + "\n"


def test_a_terminal_without_unicode_gets_ascii():
    text = printed(PYTHONIOENCODING="ascii", COLUMNS="80")
    assert text.isascii() and "forget >gold" in text and "unrelated/unseen ^" in text


def on_terminal(**environment: str) -> str:
    """What a terminal gets."""
    master, slave = pty.openpty()
    env = ENVIRONMENT | {"TERM": "xterm-256color", "COLUMNS": "80"} | environment
    child = subprocess.Popen([sys.executable, "-c", PRINT], env=env, stdin=slave, stdout=slave)
    os.close(slave)
    shown = b""
    try:
        while block := os.read(master, 65536):
            shown += block
    except OSError:  # how Linux tells that the other end is closed
        pass
    os.close(master)
    assert child.wait() == 0
    return shown.decode().replace("\r\n", "\n")


def test_a_terminal_gets_the_edited_column_in_bold():
    shown = on_terminal()
    assert "\x1b[1m0.04 [0.01, 0.10]" in shown
    plain = re.sub(r"\x1b\[\d*m", "", shown)
    assert [line.rstrip() for line in plain.splitlines()] == EXPECTED.splitlines()


def test_a_terminal_that_knows_no_colour_gets_none():
    assert "\x1b" not in on_terminal(TERM="dumb")


def test_a_metric_that_has_no_value_at_all_is_named_once():
    reason = "the request names no new object"
    nothing = {f"restor/{name}": skipped(reason) for name in ("recovery", "clean", "corrupted")}
    partly = {"edit_locality/success": skipped(reason), "edit_locality/agree": entry(1.0)}
    page = fake_result(metrics=fake_result().metrics | nothing | partly).table(500)
    (line,) = [line for line in page.splitlines() if line.startswith("skipped: ")]
    assert f"same_value_new/unseen, restor, edit_locality/success ({reason})" in line


def test_the_time_of_new_observations_counts_with_the_evaluation():
    seen = [{"label": "a", "digest": "d", "cached": cached, "seconds": 2.0} for cached in (True, False)]
    result = fake_result()
    result.stages["evaluate"] |= {"observations": seen, "seconds": 1.0}
    assert "evaluate 3.0 s" in result.table(200)
