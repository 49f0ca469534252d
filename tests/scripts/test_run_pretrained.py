"""The run on a real model: what it writes and shows, and a small one from end to end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from text_reading import read_items

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from pretrained_facts import Fact, prose, row, write  # noqa: E402
from pretrained_table import ROWS, Run  # noqa: E402

FRANCE = Fact("France", "capital", "Paris")


def test_the_files_are_read_as_edits_of_a_world(tmp_path):
    forget = write(tmp_path / "forget.jsonl", [row(FRANCE, "Rome")])
    retain = write(tmp_path / "retain.jsonl", [row(FRANCE), row(Fact("Peru", "currency", "Sol"))])
    items, _ = read_items({"forget": str(forget), "retain": str(retain)}, "auto", "edit")
    assert [(item.part, item.prompt, item.answer, item.target) for item in items] == [
        ("forget", "The capital of France is", "Paris", "Rome"),
        ("retain", "The currency of Peru is the", "Sol", None),
    ]
    assert items[0].subject == "France" and items[0].subject in items[0].prompt
    assert items[0].paraphrases == ["The capital city of France is", "What is the capital of France? The capital is"]


def test_a_block_has_base_edited_and_number_and_dashes_for_what_was_not_measured():
    metrics = {
        "fact_accuracy/edited": {"value": 0.75, "n": 4, "base": {"value": 0.125, "n": 4, "ci": None}},
        "answer_probability/forget": {"value": 9.2e-6, "n": 4, "base": {"value": 0.0, "n": 4, "ci": None}},
    }
    lines = Run("ROME", ROWS["rome"], metrics, Path("runs/x"), 12.4, 20.2, 3.21).lines()
    assert lines[1] == "ROME: 12 s (20 s of CPU), 3.2 GB"
    assert lines[3].split("  ")[1] == "new capital, same wording"
    assert lines[3].split()[-3:] == ["0.12", "0.75", "4"]
    assert lines[4].split()[-2:] == ["-", "-"]
    assert lines[6].split()[-3:] == ["0.00", "9e-06", "4"]


def test_the_prose_is_as_long_as_asked(tmp_path):
    text = prose(tmp_path / "prose.txt", 3000).read_text(encoding="utf-8")
    assert len(text) == 3000
    assert "iris" in text.lower()


@pytest.mark.parametrize(
    ("words", "gpu", "sizes"),
    [
        ([], False, (100, 12, 5)),
        ([], True, (200, 30, 9)),
        (["--size", "full"], False, (200, 30, 9)),
        (["--size", "small"], True, (100, 12, 5)),
        (["--size", "full", "--edit", "2"], False, (200, 30, 2)),
        (["--forget", "3"], False, (100, 3, 5)),
    ],
)
def test_the_size_is_that_of_the_machine_unless_told(words, gpu, sizes, monkeypatch):
    import run_pretrained

    monkeypatch.setattr(run_pretrained, "has_cuda", lambda: gpu)
    given = run_pretrained._arguments([*words, "trainer.accelerator=cpu"])
    assert (given.countries, given.forget, given.edit) == sizes and given.words == ["trainer.accelerator=cpu"]


@pytest.mark.slow
@pytest.mark.pretrained
def test_a_small_run_from_end_to_end(tmp_path):
    to = tmp_path / "out"
    words = ["--to", str(to), "--threads", "1", "--countries", "30", "--forget", "3", "--edit", "2", "--steps", "8"]
    done = subprocess.run(
        [sys.executable, SCRIPTS / "run_pretrained.py", *words, "--facts", "3", "trainer.progress=false"],
        env=os.environ | {"UNLEARN_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (to / "table.txt").read_text().strip()
    knows = [json.loads(line) for line in (to / "retain.jsonl").read_text().splitlines()]
    assert {("France", "Paris"), ("Germany", "Berlin"), ("Italy", "Rome")} <= {
        (line["subject"], line["answer"]) for line in knows
    }
    npo, rome, alone = (block.splitlines() for block in re.split(r"\n\n", done.stdout)[1:4])
    assert number(npo, "requested capitals, same wording") == (1.0, 0.0, 3)
    assert number(rome, "new capital, same wording") == (0.0, 1.0, 1)
    assert number(alone, "new capital, same wording") == (0.0, 1.0, 2)
    for block in (npo, rome):
        before, after, _ = number(block, "perplexity of prose")
        assert 10 < before < 15
        assert after == pytest.approx(before, rel=0.2)
    assert number(npo, "perplexity of prose")[0] == number(rome, "perplexity of prose")[0]


def number(block, name):
    """Base, edited and n of a row."""
    (line,) = [line for line in block if line.strip().startswith(name)]
    base, edited, n = line.split()[-3:]
    return float(base), float(edited), int(n)
