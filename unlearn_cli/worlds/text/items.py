"""One row of the user's data, whatever file and columns it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Part = Literal["forget", "retain", "holdout"]  # what is requested, what must stay, what no model was trained on
PARTS: tuple[Part, ...] = ("forget", "retain", "holdout")
Key = tuple[str, str | None]  # prompt and answer, which tell items of a part from one another


@dataclass(frozen=True)
class Item:
    """A prompt and what follows it."""

    part: Part | Literal["consequence"]  # a consequence changes with what is requested
    prompt: str
    answer: str | None  # what the model says now; None: nobody knows, of a consequence or of an edit with a target
    target: str | None = None  # what it is to say, of an edit
    wrong: Sequence[str] = ()  # wrong answers to the same prompt (TOFU: perturbed)
    reworded: str | None = None  # the right answer in other words (TOFU: paraphrased)
    paraphrases: Sequence[str] = ()  # other prompts for the same answer
    subject: str | None = None  # whom it is about; None: an item of its own
    relation: str = ""  # what is said of it; items of one relation have answers of one kind
    causes: Sequence[Key] = ()  # of a consequence: requested items that change first, all of them
    place: str = ""  # file and row, for messages
    note: str = ""  # what a reader of results must know of its file

    @property
    def key(self) -> Key:
        """What tells it from other items of its part."""
        return self.prompt, self.answer

    @property
    def texts(self) -> list[str]:
        """Everything that it says."""
        told = (self.prompt, self.answer, self.target, self.reworded, *self.wrong, *self.paraphrases)
        return [text for text in told if text is not None]


def notes(items: Sequence[Item], special: Sequence[str] = ()) -> list[str]:
    """What a reader must know of the files, each note once; `special` are tokens that are no text."""
    held = [(item, token) for item in items for token in special if any(token in text for text in item.texts)]
    first = [f"'{token}' in {item.place} is read as the special token that it is" for item, token in held[:1]]
    more = [f"{told} ({len(held)} such rows)" if held[1:] else told for told in first]
    return [*dict.fromkeys(item.note for item in items if item.note), *more]
