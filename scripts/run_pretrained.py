"""A real model and real facts, offline: SmolLM2-135M forgets capitals with NPO and learns other ones with ROME.

    python scripts/run_pretrained.py [--to DIR] [--model DIR] [--threads N] [--size small|full]

Asks the model which facts about countries it knows, writes them as the files of `world=edits`, runs `unlearn` on them
as anyone would, and prints one table: docs/pretrained.md says how to read it. Where there is a GPU, it runs there, on
nearly all that the model knows. `make run-pretrained` installs what it needs; nothing else is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pretrained_facts import Fact, facts, known, prose, row, write
from pretrained_table import ROWS, Run
from smollm2 import convert

from unlearn_cli.machine import has_cuda

CACHE = Path(os.environ.get("UNLEARN_CACHE", "~/.cache/unlearn")).expanduser()
PROSE = 12_000  # characters of the text whose perplexity is measured
SIZES = {  # countries that are asked about, capitals that are forgotten, capitals that are changed
    "small": {"countries": 100, "forget": 12, "edit": 5},
    "full": {"countries": 200, "forget": 30, "edit": 9},  # SmolLM2 knows 49 capitals of these; the others must stay
}


def main() -> int:
    """Prepare, run, show."""
    given, started = _arguments(), time.monotonic()
    to = given.to.absolute()
    to.mkdir(parents=True, exist_ok=True)
    model = convert(given.model or _made(CACHE / "models" / "smollm2-135m"))
    every = facts(given.countries)
    knows, never = _asked(model, every, given.threads)
    capitals = [fact for fact in knows if fact.relation == "capital"]
    wanted = given.forget + given.edit + 2
    if len(capitals) < wanted:
        sys.exit(f"the model knows {len(capitals)} capitals; --forget and --edit need {wanted}")
    files = _files(to, capitals, knows, never, given)
    countries, took = len({fact.country for fact in every}), time.monotonic() - started
    lines = [
        f"asked {len(every)} facts about {countries} countries, in {took:.0f} s",
        f"knows {len(knows)} of them: {_by_relation(knows)}",
    ]
    for title, rows, words in _experiments(files, given):
        finished = _run(title, rows, [*_common(model, to, files, given), *words, *given.words])
        lines += finished.lines()
    lines += ["", f"{time.monotonic() - started:.0f} s in all"]
    text = "\n".join(lines)
    (to / "table.txt").write_text(f"{text}\n", encoding="utf-8")
    print(text)
    return 0


def _common(model: Path, to: Path, files: dict[str, Path], given: argparse.Namespace) -> list[str]:
    """Words of every command line.

    Small batches, since each probe's logits are 49,152 numbers a token; no state of a loop, 1.6 GB, within minutes.
    """
    return [
        "world=edits",
        f"model.path={model}",
        f"world.retain={files['retain']}",
        f"world.holdout={files['holdout']}",
        "retain.pool=0.5",
        f"metric.text_perplexity.path={files['prose']}",
        f"evaluate.facts={given.facts}",
        "evaluate.templates=1",
        "evaluate.batch_size=64",
        f"trainer.threads={given.threads}",
        "trainer.checkpoint_seconds=600.0",
        "logger=none",
        f"paths.runs={to / 'runs'}",
    ]


def _experiments(files: dict[str, Path], given: argparse.Namespace) -> list[tuple[str, str, list[str]]]:
    """Title, rows of the table, and words of the command line."""
    metrics = "metric=[fact_accuracy,answer_probability,text_perplexity,cost{}]"
    npo = f"edit=given method=npo method.steps={given.steps} method.lr=2e-5 method.beta=0.5"
    npo += f" method.retain_batch={given.forget}"  # as many as requested facts
    relearn = f"metric.relearn_few_forget.n={given.forget // 3} metric.relearn_few_forget.lr=2e-5"
    rome = f"edit=given_remap method=rome method.site=subject method.layer={given.layer}"
    rome += f" method.value.lr=0.5 method.value.steps=20 {metrics.format('')}"
    forget, one, some = (f"world.forget={files[name]}" for name in ("forget", "edit_one", "edit"))
    return [
        (
            f"NPO forgets {given.forget} capitals",
            "npo",
            [forget, *npo.split(), metrics.format(",relearn_few_forget"), *relearn.split()],
        ),
        ("ROME edits one", "rome", [one, *rome.split()]),
        (
            f"ROME edits {given.edit}, each on a fresh base",
            "rome, each alone",
            [some, *rome.split(), "edit.schedule=independent"],
        ),
    ]


def _files(
    to: Path, capitals: Sequence[Fact], knows: Sequence[Fact], never: Sequence[Fact], given: argparse.Namespace
) -> dict[str, Path]:
    """Write what the runs read; of what is known, `unlearn` itself leaves out what is requested.

    New capitals are those of the next country, so that all are names of known cities.
    """
    forget, edit = capitals[: given.forget], capitals[given.forget : given.forget + given.edit]
    nexts = capitals[given.forget + 1 : given.forget + given.edit + 1]
    changed = [row(fact, other.answer) for fact, other in zip(edit, nexts, strict=True)]
    return {
        "forget": write(to / "forget.jsonl", [row(fact) for fact in forget]),
        "edit": write(to / "edit.jsonl", changed),
        "edit_one": write(to / "edit_one.jsonl", changed[:1]),
        "retain": write(to / "retain.jsonl", [row(fact) for fact in knows]),
        "holdout": write(to / "holdout.jsonl", [row(fact) for fact in never if fact.relation == "capital"]),
        "prose": prose(to / "prose.txt", PROSE),
    }


def _asked(model: Path, every: Sequence[Fact], threads: int) -> tuple[list[Fact], list[Fact]]:
    import torch

    from unlearn_cli.models import checkpoint

    torch.set_num_threads(threads)
    return known(checkpoint.load(model), str(model), every)


def _run(title: str, rows: str, words: Sequence[str]) -> Run:
    """Run `unlearn` with these words; what it says goes to stderr."""
    command = [sys.executable, "-m", "unlearn_cli", *words]
    print(f"\nunlearn {shlex.join(words)}", file=sys.stderr, flush=True)
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    out = process.stdout.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"unlearn ended with status {os.waitstatus_to_exitcode(status)}")
    print(*out, sep="\n", file=sys.stderr)
    folder = Path(out[-1])
    metrics = json.loads((folder / "result.json").read_text(encoding="utf-8"))["metrics"]
    cpu = usage.ru_utime + usage.ru_stime
    return Run(title, ROWS[rows], metrics, folder, time.monotonic() - started, cpu, usage.ru_maxrss * 1024 / 1e9)


def _by_relation(found: Sequence[Fact]) -> str:
    names = dict.fromkeys(fact.relation for fact in found)
    return ", ".join(f"{sum(fact.relation == name for fact in found)} of {name}" for name in names)


def _made(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def _arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("runs/pretrained"), help="folder of files, runs and table.txt")
    parser.add_argument("--model", type=Path, help="another checkpoint folder")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    default = "full" if has_cuda() else "small"
    parser.add_argument("--size", choices=SIZES, default=default, help="of the next three; full where there is a GPU")
    for name, what in (
        ("countries", "that are asked about, the most populous ones"),
        ("forget", "capitals that NPO forgets"),
        ("edit", "capitals that ROME changes, each on a fresh base"),
    ):
        each = ", ".join(f"{size}: {held[name]}" for size, held in SIZES.items())
        parser.add_argument(f"--{name}", type=int, help=f"{what} ({each})")
    parser.add_argument("--steps", type=int, default=30, help="steps of NPO")
    parser.add_argument("--layer", type=int, default=9, help="block that ROME edits")
    parser.add_argument("--facts", type=int, default=24, help="facts asked in each part of what must not change")
    parser.add_argument("words", nargs="*", help="more words for every `unlearn`")
    found = parser.parse_args(given)
    for name, value in SIZES[found.size].items():
        if getattr(found, name) is None:
            setattr(found, name, value)
    return found


if __name__ == "__main__":
    sys.exit(main())
