"""Rows of edits, as benchmarks write them, as items: what changes, what follows from it, what must stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unlearn_cli.config import shown
from unlearn_cli.worlds.text.cells import BadRow, Cells
from unlearn_cli.worlds.text.items import Item


def edit(cells: Cells) -> Iterator[Item]:
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


def filled(prompt: str, subject: str | None) -> str:
    """A prompt with `{}` in the subject's place."""
    if "{}" not in prompt:
        return prompt
    if subject is None:
        raise BadRow(f"prompt: '{prompt}' holds {{}}, and there is no subject")
    return prompt.replace("{}", subject)
