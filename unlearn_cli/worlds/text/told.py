"""The user's own facts in words: what a number of a fact stands for."""

from __future__ import annotations

import json
from pathlib import Path

from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.text.language import TextLanguage


def write_facts(world: WorldData, request: EditRequest, path: Path) -> None:
    """One JSON object a line for each fact of the user's own text; nothing for a generated world."""
    language, table = world.language, world.facts
    if not isinstance(language, TextLanguage):
        return
    objects = [None] * len(request.facts) if request.new_object is None else request.new_object.tolist()
    asked = dict(zip(request.facts.tolist(), objects, strict=True))
    with path.open("w", encoding="utf-8") as file:
        for fact, (relation, known) in enumerate(zip(table.relation.tolist(), table.object.tolist(), strict=True)):
            target = asked.get(fact)
            told = {
                "fact": fact,
                "row": language.places[fact],
                "requested": fact in asked,
                "subject": language.names[fact],
                "prompts": list(language.prompts[fact]),  # by template
                "answer": language.text(relation, known),
                "target": None if target is None else language.text(relation, target),
            }
            file.write(json.dumps(told, ensure_ascii=False) + "\n")
