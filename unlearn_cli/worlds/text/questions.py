"""Rows of questions and answers, as benchmarks write them, as items."""

from __future__ import annotations

from collections.abc import Iterator

from unlearn_cli.config import shown
from unlearn_cli.worlds.text.cells import BadRow, Cells
from unlearn_cli.worlds.text.items import Item


def qa(cells: Cells) -> Iterator[Item]:
    yield Item(
        "forget",
        cells.text("question", "prompt", "query"),
        cells.text("answer", "gt", "response"),
        target=cells.maybe("target", "new_answer"),
        wrong=cells.texts("perturbed_answers", "perturbed_answer", "wrong"),
        reworded=cells.maybe("paraphrased_answer"),
        paraphrases=cells.texts("paraphrased_questions", "paraphrased_question", "paraphrases"),
        subject=cells.maybe("subject", "group", "edge"),
        relation=cells.maybe("relation", "task") or "",
    )


def choice(cells: Cells) -> Iterator[Item]:
    options = cells.texts("choices", "options") or [cells.text(f"option{number}") for number in range(1, 5)]
    place = cells.values.get("answer")
    if isinstance(place, str) and place in options:
        place = options.index(place)
    if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(options):
        raise BadRow(f"answer: {shown(place)} given; expected 0 to {len(options) - 1}, the place of the right choice")
    wrong = [option for number, option in enumerate(options) if number != place]
    yield Item("forget", cells.text("question"), options[place], wrong=wrong, subject=cells.maybe("subject"))


def lume(cells: Cells) -> Iterator[Item]:
    yield Item("forget", cells.text("input"), cells.text("output"), relation=cells.maybe("task") or "")


def instruction(cells: Cells) -> Iterator[Item]:
    prompt, more = cells.text("instruction"), cells.maybe("input")
    yield Item("forget", f"{prompt}\n{more}" if more else prompt, cells.text("output"))
