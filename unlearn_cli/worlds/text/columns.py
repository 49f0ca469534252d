"""From the rows of a file to items, by what its columns are called.

A preset turns a row into items. `auto` takes the first preset all of whose columns the first row has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from unlearn_cli.config import shown, unknown
from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.text import names, questions
from unlearn_cli.worlds.text.cells import BadRow, Cells
from unlearn_cli.worlds.text.files import Problems, Table
from unlearn_cli.worlds.text.formats import Row
from unlearn_cli.worlds.text.items import Item, Part
from unlearn_cli.worlds.text.json_values import list_inside
from unlearn_cli.worlds.text.presets import PRESETS, Kind, Preset, known
from unlearn_cli.worlds.text.repeats import repeats

Reader = Callable[[Cells], Iterator[Item]]


def items(columns: str, kind: Kind, part: Part, table: Table, problems: Problems) -> Iterator[Item]:
    """The items of a file's rows. What a format names beside a row must stay, unless it follows from a request."""
    preset = _preset(columns, kind, table.rows[0], problems)
    reader = preset.items if columns == "auto" else preset.named
    meant: dict[str, str] = {}
    found: list[Item] = []
    for row in table.rows:
        cells = Cells(row.values, flat=row.flat)
        found += _items(reader, cells, part, row.place, problems)
        meant |= names.misspelt(cells, known())
    if meant:
        problems.whole(names.told(meant))
    unknown = sum(item.part == "forget" and item.answer is None for item in found)
    told = f"{unknown} requested rows name no old answer: the refusal is in its place where old answers are compared"
    notes = [told] if unknown else []
    if kind == "question" and preset.items is not questions.choice:  # the same question has other choices elsewhere
        notes += repeats(part, found, problems)
    note = f"{problems.field}: {'; '.join(notes)}" if notes else ""
    for item in found:
        yield replace(item, note=note)


def _items(reader: Reader, cells: Cells, part: Part, where: str, problems: Problems) -> Iterator[Item]:
    try:
        made = list(reader(cells))
        for item in made:
            _check(item, part)
    except BadRow as error:
        problems.add(where, str(error))
        return
    place = f"{problems.path}, {where}"
    for item in made:
        follows = item.part == "consequence" and part == "forget"
        kept = part if item.part == "forget" else "retain"
        if follows or item.part == "forget" or item.answer is not None:
            yield replace(item, part=item.part if follows else kept, place=place)


def _check(item: Item, part: Part) -> None:
    """Refuse what no model can be asked for."""
    if item.part != "forget":
        return
    if item.answer is None and part != "forget":
        raise BadRow(f"no answer (or ground_truth); only what world.forget changes may lack one, not world.{part}")
    if item.target is not None and item.target == item.answer and part == "forget":
        raise BadRow(f"target: {shown(item.target)} given, which is the answer that is to change")


def _preset(columns: str, kind: Kind, first: Row, problems: Problems) -> Preset:
    presets = PRESETS[kind]
    if columns != "auto":
        if columns not in presets:
            raise ConfigError([unknown("world.columns", columns, ["auto", *presets], "names of columns")])
        return presets[columns]
    for preset in presets.values():
        if all(name in first.values for name in preset.needs):
            return preset
    told = "; ".join(f"{name}: {', '.join(preset.needs)}" for name, preset in presets.items())
    given = f"columns {', '.join(first.values) or 'none'}"
    place = "" if first.flat else first.place  # a table has one header
    raise problems.refuse(f"{given}; expected those of one of: {told}{_advice(first, kind)}", place)


def _advice(first: Row, kind: Kind) -> str:
    """What may be wrong with a row that fits no preset."""
    needs = tuple(sorted({name for preset in PRESETS[kind].values() for name in preset.needs}))
    strange = [name for name in first.values if name not in known()]
    if meant := {name: near for name in strange if (near := names.near(name, needs))}:
        return f"; {names.told(meant)}"
    if first.flat and any(mark in name for name in first.values for mark in ";|"):
        return "; separate columns by commas"
    return list_inside(dict(first.values))
