"""What the columns of known data are called, and what they mean.

A preset turns a row into items. `auto` takes the first preset all of whose columns the first row has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from unlearn_cli.config import unknown
from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.text import changes, questions
from unlearn_cli.worlds.text.cells import BadRow, Cells
from unlearn_cli.worlds.text.files import Problems, Row, Table
from unlearn_cli.worlds.text.items import Item, Part

Kind = Literal["question", "edit"]


@dataclass(frozen=True)
class Preset:
    """A known set of columns."""

    needs: tuple[str, ...]
    items: Callable[[Cells], Iterator[Item]]  # the first is the row's own; others stand beside it and must stay
    about: str


PRESETS: dict[Kind, dict[str, Preset]] = {
    "question": {
        "wmdp": Preset(
            ("question", "choices", "answer"), questions.choice, "multiple choice: question, choices, answer"
        ),
        "options": Preset(
            ("question", "option1", "answer"), questions.choice, "multiple choice: question, option1..4, answer"
        ),
        "qa": Preset(("question", "answer"), questions.qa, "TOFU, MUSE knowmem, PISTOL or your own: question, answer"),
        "rwku": Preset(("query", "answer"), questions.qa, "RWKU: query, answer, subject"),
        "verbmem": Preset(("prompt", "gt"), questions.qa, "MUSE verbmem: prompt, gt"),
        "lume": Preset(("input", "output", "task"), questions.lume, "LUME: input, output, task"),
        "instruction": Preset(
            ("instruction", "output"), questions.instruction, "Alpaca, LitGPT: instruction, input, output"
        ),
    },
    "edit": {
        "mquake": Preset(("requested_rewrite", "questions"), changes.mquake, "MQuAKE: requested_rewrite, a list"),
        "counterfact": Preset(
            ("requested_rewrite",), changes.counterfact, "CounterFact: requested_rewrite, prompts beside it"
        ),
        "zsre": Preset(("src", "answers"), changes.zsre, "zsRE: src, answers, alt, rephrase, loc, loc_ans"),
        "edit": Preset(("prompt",), changes.edit, "EasyEdit, KnowEdit or your own: prompt, subject, answer, target"),
        "easyedit": Preset(("prompts",), changes.edit, "EasyEdit: prompts, target_new, ground_truth"),
        "qa": Preset(("question", "answer"), questions.qa, "question, answer, target"),
    },
}


def items(columns: str, kind: Kind, part: Part, table: Table, problems: Problems) -> Iterator[Item]:
    """The items of a file's rows. What a format names beside a row must stay, unless it follows from a request."""
    preset = _preset(columns, kind, table.rows[0], problems)
    for row in table.rows:
        try:
            made = list(preset.items(Cells(row.values)))
        except BadRow as error:
            problems.add(row.place, str(error))
            continue
        place = f"{problems.path}, {row.place}"
        for item in made:
            follows = item.part == "consequence" and part == "forget"
            kept = part if item.part == "forget" else "retain"
            if follows or item.answer is not None:
                yield replace(item, part=item.part if follows else kept, place=place)


def _preset(columns: str, kind: Kind, first: Row, problems: Problems) -> Preset:
    presets = PRESETS[kind]
    if columns != "auto":
        if columns not in presets:
            raise ConfigError([unknown("world.columns", columns, ["auto", *presets], "names of columns")])
        return presets[columns]
    for preset in presets.values():
        if all(name in first.values for name in preset.needs):
            return preset
    known = "; ".join(f"{name}: {', '.join(preset.needs)}" for name, preset in presets.items())
    advice = "; separate columns by commas" if _other_separator(first) else ""
    raise problems.refuse(f"columns {', '.join(first.values) or 'none'}; expected those of one of: {known}{advice}")


def _other_separator(first: Row) -> bool:
    """Whether a table of several columns was read as one of one."""
    return len(first.values) == 1 and any(mark in name for name in first.values for mark in ";\t|")
