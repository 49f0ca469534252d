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
    answer: str | None  # what the model says now; None: nobody knows, of a consequence
    target: str | None = None  # what it is to say, of an edit
    wrong: Sequence[str] = ()  # wrong answers to the same prompt (TOFU: perturbed)
    reworded: str | None = None  # the right answer in other words (TOFU: paraphrased)
    paraphrases: Sequence[str] = ()  # other prompts for the same answer
    subject: str | None = None  # whom it is about; None: an item of its own
    relation: str = ""  # what is said of it; items of one relation have answers of one kind
    causes: Sequence[Key] = ()  # of a consequence: requested items that change first, all of them
    place: str = ""  # file and row, for messages

    @property
    def key(self) -> Key:
        """What tells it from other items of its part."""
        return self.prompt, self.answer
