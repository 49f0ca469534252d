"""Rows of edits, as benchmarks write them, as items: what changes, what follows from it, what must stay."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from unlearn_cli.worlds.text.cells import BadRow, Cells, brief
from unlearn_cli.worlds.text.items import Item

OTHER_GAP = re.compile(r"(?<![\w^}\\])\{(?:0|subject)\}")  # alone, unlike x_{0} and \frac{0}{2}


def edit(cells: Cells, prompt: tuple[str, ...] = ("prompt", "prompts", "text")) -> Iterator[Item]:
    """Columns of one's own, also EasyEdit's and KnowEdit's (Zhang et al. 2024, arXiv 2401.01286)."""
    edit = _edit(cells, prompt)
    yield edit
    for told in cells.parts("consequences") if cells.value("consequences") else []:
        prompts = told.texts("prompts", "prompt", "questions", "question")
        if not prompts:
            raise BadRow("consequences: an object without prompt")
        yield _consequence(prompts, told.maybe("answer"), told.text("target", "new_answer"), [edit])
    yield from _portability(cells, edit)
    for name, asked, answer in _beside(cells, "locality"):
        yield Item("retain", asked, answer, relation=name)


def _edit(cells: Cells, prompt: tuple[str, ...]) -> Item:
    """The row's own edit. An answer may be a list, of which the first counts, and may be unknown if there is a target.

    Without one are KnowEdit's wiki_recent and WikiBio.
    """
    subject = cells.maybe("subject", "concept")
    answer = cells.first("answer", "ground_truth", "target_true", "object")
    target = cells.maybe("target", "target_new", "labels", "new_object")
    if answer is None and target is None:
        raise BadRow(f"no answer (or ground_truth), and no target; columns here: {', '.join(cells.values) or 'none'}")
    return Item(
        "forget",
        filled(cells.text(*prompt), subject),
        answer,
        target=target,
        paraphrases=cells.texts("paraphrases", "rephrase_prompts", "rephrase_prompt"),
        subject=subject,
        relation=cells.maybe("relation", "relation_id") or "",
    )


def _consequence(
    prompts: Sequence[str], answer: str | None, target: str, causes: Sequence[Item], relation: str = "consequence"
) -> Item:
    """What follows from edits, asked in each of these ways."""
    first, *others = prompts
    keys = [cause.key for cause in causes]
    return Item("consequence", first, answer, target, paraphrases=others, relation=relation, causes=keys)


def _portability(cells: Cells, edit: Item) -> Iterator[Item]:
    """What EasyEdit and KnowEdit say that follows from an edit; its kind, as the data name it, is the relation."""
    for name, prompt, answer in _beside(cells, "portability") if edit.target else []:
        yield _consequence([prompt], None, answer, [edit], name)


def _beside(cells: Cells, what: str) -> Iterator[tuple[str, str, str]]:
    """Name, prompt and answer of what EasyEdit and KnowEdit put beside an edit, in columns or in an object.

    That is `{name: [{prompt, ground_truth}]}`, or one question with its answer as in EasyEdit's zsRE.
    """
    yield from _asked(cells, what, f"{what}_prompt", f"{what}_ground_truth")
    beside = cells.object(what, f"{what}_inputs")
    if "New Question" in beside:
        yield from _asked(Cells(beside), what, "New Question", "New Answer")
        return
    for name, found in beside.items():
        for item in found if isinstance(found, list) else [found]:
            if not isinstance(item, dict):
                raise BadRow(f"{what}.{name}: {brief(item)} given; expected prompt and ground_truth")
            yield from _asked(Cells(item), str(name), "prompt", "ground_truth")


def _asked(cells: Cells, name: str, prompt: str, answer: str) -> Iterator[tuple[str, str, str]]:
    """Prompts and answers of two columns, each a list of as many or one; what has no answer is left out."""
    prompts, answers = cells.listed(prompt), cells.listed(answer)
    if not isinstance(prompts, list):
        prompts, answers = [prompts], [answers]
    elif not isinstance(answers, list) or len(answers) != len(prompts):
        raise BadRow(f"{answer}: {brief(answers)} given; expected a list of {len(prompts)}, one for each {prompt}")
    for one, its in zip(prompts, answers, strict=True):
        own = Cells({**cells.values, prompt: one, answer: its})
        found = own.first(answer)
        if found is not None:
            yield name, own.text(prompt), found


def counterfact(cells: Cells) -> Iterator[Item]:
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


def zsre(cells: Cells) -> Iterator[Item]:
    """MEND's evaluation slice, Mitchell et al. 2022 (arXiv 2110.11309): `alt` is the new object.

    EasyEdit's file has a question beside it whose answer follows.
    """
    subject = cells.maybe("subject")
    answers = cells.texts("answers")
    if not answers:
        raise BadRow("answers is empty")
    new, again = cells.maybe("alt"), cells.texts("rephrase")
    edit = Item("forget", cells.text("src"), answers[0], new, paraphrases=again, subject=subject)
    yield edit
    yield from _portability(cells, edit)
    if cells.maybe("loc") and cells.maybe("loc_ans"):
        asked = cells.text("loc").removeprefix("nq question: ")
        yield Item("retain", f"{asked[:1].upper()}{asked[1:].rstrip('?')}?", cells.text("loc_ans"), relation="nq")


def mquake(cells: Cells) -> Iterator[Item]:
    """MQuAKE, Zhong et al. 2023 (arXiv 2305.14795): the edits of a case, its multi-hop questions, its other hops.

    Traps: aliases of answers are not read; a case of several edits has one new answer, of all of them together.
    """
    edits = [_hop(rewrite) for rewrite in cells.parts("requested_rewrite")]
    yield from edits
    if cells.maybe("answer") and cells.maybe("new_answer"):
        yield _consequence(cells.texts("questions"), cells.text("answer"), cells.text("new_answer"), edits)
    edited = {edit.prompt for edit in edits}
    for name in ("single_hops", "new_single_hops"):
        for hop in cells.parts(name) if cells.value(name) is not None else []:
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


def filled(prompt: str, subject: str | None) -> str:
    """A prompt with `{}` in the subject's place."""
    if subject is not None and (other := OTHER_GAP.search(prompt)):
        raise BadRow(f"prompt: '{prompt}' holds {other[0]}; what stands for the subject is {{}}")
    if "{}" not in prompt:
        return prompt
    if subject is None:
        raise BadRow(f"prompt: '{prompt}' holds {{}}, and there is no subject")
    return prompt.replace("{}", subject)
