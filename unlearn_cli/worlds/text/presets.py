"""What the columns of known data are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal

from unlearn_cli.worlds.text import changes, names, questions
from unlearn_cli.worlds.text.cells import Cells
from unlearn_cli.worlds.text.items import Item

Kind = Literal["question", "edit"]
Names = tuple[str, ...]


@dataclass(frozen=True)
class Preset:
    """A known set of columns."""

    needs: Names
    items: Callable[..., Iterator[Item]]  # the first is the row's own; others stand beside it and must stay
    about: str
    own: Mapping[str, Names] = field(default_factory=dict)  # arguments of `items`: the columns of this preset alone

    def named(self, cells: Cells) -> Iterator[Item]:
        """The items of a row, of which nothing but the preset's own columns are read; it must have what they need."""
        for need in self.needs:
            cells.needed(*next((group for group in self.own.values() if need in group), (need,)))
        yield from self.items(cells, **self.own)


QA: dict[str, Names] = {"prompt": ("question",), "answer": ("answer",)}

PRESETS: dict[Kind, dict[str, Preset]] = {
    "question": {
        "wmdp": Preset(
            ("question", "choices", "answer"), questions.choice, "multiple choice: question, choices, answer",
            {"listed": ("choices", "options"), "each": ()},
        ),
        "options": Preset(
            ("question", "option1", "answer"), questions.choice, "multiple choice: question, option1..4, answer",
            {"listed": ()},
        ),
        "qa": Preset(
            ("question", "answer"), questions.qa, "TOFU, MUSE knowmem, PISTOL or your own: question, answer", QA
        ),
        "rwku": Preset(
            ("query", "answer"), questions.qa, "RWKU: query, answer, subject",
            {"prompt": ("query",), "answer": ("answer", "response")},
        ),
        "verbmem": Preset(
            ("prompt", "gt"), questions.qa, "MUSE verbmem: prompt, gt", {"prompt": ("prompt",), "answer": ("gt",)}
        ),
        "messages": Preset(("messages",), questions.messages, "a chat of two turns: messages, each role and content"),
        "sharegpt": Preset(("conversations",), questions.sharegpt, "the same: conversations, each from and value"),
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
        "edit": Preset(
            ("prompt",), changes.edit, "EasyEdit, KnowEdit or your own: prompt, subject, answer, target",
            {"prompt": ("prompt",)},
        ),
        "wikibio": Preset(
            ("text", "labels"), changes.edit, "KnowEdit's WikiBio: text, labels, concept, locality",
            {"prompt": ("text",)},
        ),
        "easyedit": Preset(
            ("prompts",), changes.edit, "EasyEdit: prompts, target_new, ground_truth", {"prompt": ("prompts",)}
        ),
        "qa": Preset(("question", "answer"), questions.qa, "question, answer, target", QA),
    },
}  # fmt: skip


@cache
def known() -> frozenset[str]:
    """Every column that some preset reads."""
    presets = [preset for held in PRESETS.values() for preset in held.values()]
    readers: list[Callable[[Cells], Any]] = [partial(preset.items, **preset.own) for preset in presets]
    return names.known([*readers, questions.qa])
