"""Rows of questions and answers, as benchmarks write them, as items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from string import ascii_uppercase
from typing import Any

from unlearn_cli.worlds.text.cells import BadRow, Cells, brief
from unlearn_cli.worlds.text.items import Item

ROLES = {"human": "user", "gpt": "assistant"}  # as ShareGPT calls them
OPTIONS = ("option1", "option2", "option3", "option4")
Names = tuple[str, ...]  # of columns, of which the first that a row has counts


def qa(
    cells: Cells, prompt: Names = ("question", "prompt", "query"), answer: Names = ("answer", "gt", "response")
) -> Iterator[Item]:
    yield _item(cells, cells.text(*prompt), cells.text(*answer))


def messages(cells: Cells) -> Iterator[Item]:
    yield _exchange(cells, "messages", "role", "content")


def sharegpt(cells: Cells) -> Iterator[Item]:
    yield _exchange(cells, "conversations", "from", "value")


def _exchange(cells: Cells, column: str, role: str, content: str) -> Item:
    """A question of the user and the assistant's answer; the tokenizer's own template makes a chat of them again."""
    turns = [_turn(f"{column}[{place}]", turn, role, content) for place, turn in enumerate(cells.parts(column))]
    given = [who for who, _ in turns]
    if [ROLES.get(who, who) for who in given] != ["user", "assistant"]:
        said = f"turns of {', '.join(given)}" if given else "no turn"
        raise BadRow(f"{column}: {said} given; expected two, of the user and of the assistant")
    return _item(cells, turns[0][1], turns[1][1])


def _turn(place: str, turn: Cells, role: str, content: str) -> tuple[str, str]:
    try:
        return turn.text(role), turn.text(content)
    except BadRow as error:
        raise BadRow(f"{place}: {error}") from None


def _item(cells: Cells, prompt: str, answer: str) -> Item:
    subject, edge = cells.maybe("subject", "group"), cells.texts("edge")
    return Item(
        "forget",
        prompt,
        answer,
        target=cells.maybe("target", "new_answer"),
        wrong=cells.texts("perturbed_answers", "perturbed_answer", "wrong"),
        reworded=cells.maybe("paraphrased_answer"),
        paraphrases=cells.texts("paraphrased_questions", "paraphrased_question", "paraphrases"),
        subject=subject or ", ".join(edge) or None,  # an edge has two ends
        relation=cells.maybe("relation", "task") or "",
    )


def choice(cells: Cells, listed: Names = ("choices", "options"), each: Names = OPTIONS) -> Iterator[Item]:
    options = cells.texts(*listed) or [cells.text(name) for name in each]
    if len(options) < 2:
        raise BadRow(f"choices: {brief(options)} given; expected a list of two or more")
    right = _right(cells.value("answer"), options)
    wrong = [option for number, option in enumerate(options) if number != right]
    yield Item("forget", cells.text("question"), options[right], wrong=wrong, subject=cells.maybe("subject"))


def _right(answer: Any, options: Sequence[str]) -> int:
    """The place of the right option, of its number, its text, or a text that says its number or letter."""
    place, letters = answer, ascii_uppercase[: len(options)]
    if isinstance(answer, str):
        said = answer.strip()
        if said in options:
            return options.index(said)
        digits = said.isascii() and said.isdigit()
        place = int(said) if digits else letters.find(said.upper()) if len(said) == 1 else None
    if isinstance(place, int) and not isinstance(place, bool) and 0 <= place < len(options):
        return place
    allowed = f"0 to {len(options) - 1}, the place of the right choice, {letters[0]} to {letters[-1]}, or its text"
    raise BadRow(f"answer: {brief(answer)} given; expected {allowed}")


def lume(cells: Cells) -> Iterator[Item]:
    yield Item("forget", cells.text("input"), cells.text("output"), relation=cells.maybe("task") or "")


def instruction(cells: Cells) -> Iterator[Item]:
    prompt, more = cells.text("instruction"), cells.maybe("input")
    yield Item("forget", f"{prompt}\n{more}" if more else prompt, cells.text("output"))
