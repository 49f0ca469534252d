"""What the columns of known data are called, and what they mean.

A preset turns a row into items. `auto` takes the first preset all of whose columns the first row has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from unlearn_cli.config import shown, unknown
from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.text.files import Problems, Row, Table
from unlearn_cli.worlds.text.items import Item, Part

Kind = Literal["question", "edit"]


class BadRow(ValueError):
    """What is wrong with one row."""


class Cells:
    """The values of a row, read by type."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def text(self, *names: str) -> str:
        """The text of the first of these columns that the row has."""
        name = next((name for name in names if self.values.get(name) is not None), names[0])
        if name not in self.values:
            raise BadRow(f"no {name}; columns here: {', '.join(self.values) or 'none'}")
        return text(self.values[name], name)

    def maybe(self, *names: str) -> str | None:
        """The same, or None where the row has none of them."""
        return self.text(*names) if any(self.values.get(name) not in (None, "") for name in names) else None

    def texts(self, *names: str) -> list[str]:
        """Texts of the first of these columns that the row has; one text is a list of one."""
        for name in names:
            value = self.values.get(name)
            if value in (None, ""):
                continue
            if not isinstance(value, list | tuple):
                value = [value]
            return [text(item, f"{name}[{place}]") for place, item in enumerate(value)]
        return []

    def part(self, name: str) -> Cells:
        """The values of an object that stands in a column."""
        value = self.values.get(name)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, dict):
            raise BadRow(f"{name}: {shown(value)} given; expected an object")
        return Cells(value)

    def parts(self, name: str) -> list[Cells]:
        """The values of each object of a list that stands in a column."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise BadRow(f"{name}: {shown(value)} given; expected a list of objects")
        return [Cells(item) for item in value]


@dataclass(frozen=True)
class Preset:
    """A known set of columns."""

    needs: tuple[str, ...]
    items: Callable[[Cells], Iterator[Item]]  # the first is the row's own; others stand beside it and must stay
    about: str


def text(value: Any, name: str) -> str:
    """A value as a text that says something."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        value = str(value)
    if not isinstance(value, str):
        raise BadRow(f"{name}: {shown(value)} given; expected a text")
    if not value.strip():
        raise BadRow(f"{name} is empty")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise BadRow(f"{name}: {value!a} given; half of a surrogate pair is no character")
    return value.strip()


def _qa(cells: Cells) -> Iterator[Item]:
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


def _choice(cells: Cells) -> Iterator[Item]:
    options = cells.texts("choices", "options") or [cells.text(f"option{number}") for number in range(1, 5)]
    place = cells.values.get("answer")
    if isinstance(place, str) and place in options:
        place = options.index(place)
    if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(options):
        raise BadRow(f"answer: {shown(place)} given; expected 0 to {len(options) - 1}, the place of the right choice")
    wrong = [option for number, option in enumerate(options) if number != place]
    yield Item("forget", cells.text("question"), options[place], wrong=wrong, subject=cells.maybe("subject"))


def _lume(cells: Cells) -> Iterator[Item]:
    yield Item("forget", cells.text("input"), cells.text("output"), relation=cells.maybe("task") or "")


def _instruction(cells: Cells) -> Iterator[Item]:
    prompt, more = cells.text("instruction"), cells.maybe("input")
    yield Item("forget", f"{prompt}\n{more}" if more else prompt, cells.text("output"))


def _edit(cells: Cells) -> Iterator[Item]:
    """Columns of one's own, also EasyEdit's and KnowEdit's."""
    subject = cells.maybe("subject", "concept")
    edit = Item(
        "forget",
        filled(cells.text("prompt", "prompts", "text"), subject),
        cells.text("answer", "ground_truth", "target_true", "object"),
        target=cells.maybe("target", "target_new", "labels", "new_object"),
        paraphrases=cells.texts("paraphrases", "rephrase_prompts", "rephrase_prompt"),
        subject=subject,
        relation=cells.maybe("relation", "relation_id") or "",
    )
    yield edit
    for told in cells.parts("consequences") if "consequences" in cells.values else []:
        prompts = told.texts("prompts", "prompt", "questions", "question")
        if not prompts:
            raise BadRow("consequences: an object without prompt")
        yield _consequence(prompts, told.maybe("answer"), told.text("target", "new_answer"), [edit])
    for _, prompt, answer in _beside(cells, "portability") if edit.target else []:
        yield _consequence([prompt], None, answer, [edit])
    for name, prompt, answer in _beside(cells, "locality"):
        yield Item("retain", prompt, answer, relation=name)


def _consequence(prompts: Sequence[str], answer: str | None, target: str, causes: Sequence[Item]) -> Item:
    """What follows from edits, asked in each of these ways."""
    first, *others = prompts
    keys = [cause.key for cause in causes]
    return Item("consequence", first, answer, target, paraphrases=others, relation="consequence", causes=keys)


def _beside(cells: Cells, what: str) -> Iterator[tuple[str, str, str]]:
    """Name, prompt and answer of what EasyEdit and KnowEdit put beside an edit: `{name: [{prompt, ground_truth}]}`.

    What has no answer is left out; of several the first counts, in lists of lists too.
    """
    beside = cells.values.get(what) or cells.values.get(f"{what}_inputs") or {}
    if not isinstance(beside, dict):
        raise BadRow(f"{what}: {shown(beside)} given; expected an object")
    for name, found in beside.items():
        for item in found if isinstance(found, list) else [found]:
            if not isinstance(item, dict):
                raise BadRow(f"{what}.{name}: {shown(item)} given; expected prompt and ground_truth")
            answers = item.get("ground_truth")
            while isinstance(answers, list) and answers:
                answers = answers[0]
            if answers not in (None, "", []):
                own = Cells(item | {"ground_truth": answers})
                yield str(name), own.text("prompt"), own.text("ground_truth")


def _counterfact(cells: Cells) -> Iterator[Item]:
    """ROME, Meng et al. 2022 (arXiv 2202.05262): neighbours hold the old object, attribute prompts the new one."""
    rewrite = cells.part("requested_rewrite")
    subject, relation = rewrite.text("subject"), rewrite.maybe("relation_id") or ""
    old, new = rewrite.part("target_true").text("str"), rewrite.part("target_new").text("str")
    paraphrases = cells.texts("paraphrase_prompts")
    prompt = filled(rewrite.text("prompt"), subject)
    yield Item("forget", prompt, old, new, paraphrases=paraphrases, subject=subject, relation=relation)
    for prompt in cells.texts("neighborhood_prompts"):
        yield Item("retain", prompt, old, wrong=[new], relation=relation)
    for prompt in cells.texts("attribute_prompts"):
        yield Item("retain", prompt, new, wrong=[old], relation=relation)


def _zsre(cells: Cells) -> Iterator[Item]:
    """MEND's evaluation slice, Mitchell et al. 2022 (arXiv 2110.11309): `alt` is the new object."""
    subject = cells.maybe("subject")
    answers = cells.texts("answers")
    if not answers:
        raise BadRow("answers is empty")
    new, again = cells.maybe("alt"), cells.texts("rephrase")
    yield Item("forget", cells.text("src"), answers[0], new, paraphrases=again, subject=subject)
    if cells.maybe("loc") and cells.maybe("loc_ans"):
        asked = cells.text("loc").removeprefix("nq question: ")
        yield Item("retain", f"{asked[:1].upper()}{asked[1:].rstrip('?')}?", cells.text("loc_ans"), relation="nq")


def _mquake(cells: Cells) -> Iterator[Item]:
    """MQuAKE, Zhong et al. 2023 (arXiv 2305.14795): the edits of a case, its multi-hop questions, its other hops.

    Traps: aliases of answers are not read; a case of several edits has one new answer, of all of them together.
    """
    edits = [_hop(rewrite) for rewrite in cells.parts("requested_rewrite")]
    yield from edits
    if cells.maybe("answer") and cells.maybe("new_answer"):
        yield _consequence(cells.texts("questions"), cells.text("answer"), cells.text("new_answer"), edits)
    edited = {edit.prompt for edit in edits}
    for name in ("single_hops", "new_single_hops"):
        for hop in cells.parts(name) if name in cells.values else []:
            if hop.text("cloze") not in edited:
                yield Item("retain", hop.text("cloze"), hop.text("answer"), paraphrases=hop.texts("question"))


def _hop(rewrite: Cells) -> Item:
    subject = rewrite.text("subject")
    return Item(
        "forget",
        filled(rewrite.text("prompt"), subject),
        rewrite.part("target_true").text("str"),
        rewrite.part("target_new").text("str"),
        paraphrases=rewrite.texts("question"),
        subject=subject,
        relation=rewrite.maybe("relation_id") or "",
    )


PRESETS: dict[Kind, dict[str, Preset]] = {
    "question": {
        "wmdp": Preset(("question", "choices", "answer"), _choice, "multiple choice: question, choices, answer"),
        "options": Preset(("question", "option1", "answer"), _choice, "multiple choice: question, option1..4, answer"),
        "qa": Preset(("question", "answer"), _qa, "TOFU, MUSE knowmem, PISTOL or your own: question, answer"),
        "rwku": Preset(("query", "answer"), _qa, "RWKU: query, answer, subject"),
        "verbmem": Preset(("prompt", "gt"), _qa, "MUSE verbmem: prompt, gt"),
        "lume": Preset(("input", "output", "task"), _lume, "LUME: input, output, task"),
        "instruction": Preset(("instruction", "output"), _instruction, "Alpaca, LitGPT: instruction, input, output"),
    },
    "edit": {
        "mquake": Preset(("requested_rewrite", "questions"), _mquake, "MQuAKE: requested_rewrite, a list"),
        "counterfact": Preset(
            ("requested_rewrite",), _counterfact, "CounterFact: requested_rewrite, prompts beside it"
        ),
        "zsre": Preset(("src", "answers"), _zsre, "zsRE: src, answers, alt, rephrase, loc, loc_ans"),
        "edit": Preset(("prompt",), _edit, "EasyEdit, KnowEdit or your own: prompt, subject, answer, target"),
        "easyedit": Preset(("prompts",), _edit, "EasyEdit: prompts, target_new, ground_truth"),
        "qa": Preset(("question", "answer"), _qa, "question, answer, target"),
    },
}


def filled(prompt: str, subject: str | None) -> str:
    """A prompt with `{}` in the subject's place."""
    if "{}" not in prompt:
        return prompt
    if subject is None:
        raise BadRow(f"prompt: '{prompt}' holds {{}}, and there is no subject")
    return prompt.replace("{}", subject)


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
    raise problems.refuse(f"columns {', '.join(first.values) or 'none'}; expected those of one of: {known}")
