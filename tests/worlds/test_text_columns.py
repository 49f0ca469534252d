"""Names of columns: a named preset reads its own alone, and a misspelt name is no other column."""

import json

import pytest
from text_reading import read_items

from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.text.presets import PRESETS, known


def written(folder, *rows):
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def read(folder, *rows, columns="auto", kind="question"):
    return read_items({"forget": written(folder, *rows)}, columns, kind)[0]


def refused(folder, *rows, columns="auto", kind="question"):
    with pytest.raises(ConfigError) as caught:
        read(folder, *rows, columns=columns, kind=kind)
    return caught.value.problems


BOTH = {"question": "q", "answer": "a", "prompt": "p", "gt": "g", "query": "y"}


@pytest.mark.parametrize(
    "columns, found", [("auto", ("q", "a")), ("qa", ("q", "a")), ("verbmem", ("p", "g")), ("rwku", ("y", "a"))]
)
def test_a_named_preset_reads_its_own_columns(columns, found, tmp_path):
    (item,) = read(tmp_path, BOTH, columns=columns)
    assert (item.prompt, item.answer) == found


def test_a_named_preset_of_edits_reads_its_own_columns(tmp_path):
    row = {"prompt": "p", "prompts": "s", "text": "t", "labels": "l", "answer": "a"}
    for columns, prompt in (("auto", "p"), ("edit", "p"), ("easyedit", "s"), ("wikibio", "t")):
        assert read(tmp_path, row, columns=columns, kind="edit")[0].prompt == prompt


@pytest.mark.parametrize(
    "columns, kind, lacks",
    [
        ("rwku", "question", "query"),
        ("verbmem", "question", "prompt"),
        ("lume", "question", "input"),
        ("wmdp", "question", "choices or options"),
        ("options", "question", "option1"),
        ("instruction", "question", "instruction"),
        ("wikibio", "edit", "text"),
        ("mquake", "edit", "requested_rewrite"),
    ],
)
def test_a_row_without_the_columns_of_a_named_preset_is_refused(columns, kind, lacks, tmp_path):
    (problem,) = refused(tmp_path, {"question": "q", "answer": "a"}, columns=columns, kind=kind)
    assert problem.endswith(f"rows.jsonl, line 1: no {lacks}; columns here: question, answer")


def test_every_row_must_have_them(tmp_path):
    row = {"input": "a", "output": "b", "task": "t"}
    (problem,) = refused(tmp_path, row, {"input": "c", "output": "d"}, columns="lume")
    assert problem.endswith("line 2: no task; columns here: input, output")
    (item,) = read(tmp_path, {"query": "a", "response": "b"}, columns="rwku")
    assert item.answer == "b"


@pytest.mark.parametrize(
    "column, meant, kind",
    [
        ("subejct", "subject", "question"),
        ("taget", "target", "question"),
        ("paraphrased_questons", "paraphrased_questions", "question"),
        ("Subject", "subject", "question"),
        ("targte", "target", "edit"),
        ("localty", "locality", "edit"),
        ("rephrase_promts", "rephrase_prompts", "edit"),
    ],
)
def test_a_misspelt_column_is_told_once_for_the_file(column, meant, kind, tmp_path):
    row = {"question": "q", "prompt": "p", "answer": "a", column: "x"}
    rows = [row | {"question": f"q{n}", "prompt": f"p{n}"} for n in range(30)]
    (problem,) = refused(tmp_path, *rows, kind=kind)
    assert problem == f"world.forget: {tmp_path / 'rows.jsonl'}: column '{column}': did you mean '{meant}'?"


@pytest.mark.parametrize(
    "more",
    [
        ("id", "source", "split", "type", "level", "case_id", "pararel_idx", "query_type", "subject_type"),
        ("subject_id", "question_id", "option5", "label_ids"),
        ("subject", "subjects"),
        ("target", "label"),
        ("new_answer_alias", "answer_alias", "answers", "questions", "prompts", "ground_truth"),
        ("generation_prompts", "cond", "pred", "probability", "context", "rephrase"),
    ],
)
@pytest.mark.parametrize("kind", ["question", "edit"])
def test_other_columns_pass(more, kind, tmp_path):
    names = {name: "x" for name in more}
    assert read(tmp_path, names | {"question": "q", "prompt": "p", "answer": "a"}, kind=kind)


PUBLISHED = {  # columns as they are published, of which each row here has the optional ones too
    "tofu": "question answer paraphrased_answer perturbed_answer paraphrased_question",
    "rwku": "query answer level type subject",
    "lume": "id input output task split",
    "muse": "id prompt gt",
    "mmlu": "question subject choices answer",
    "pistol": "question answer edge",
    "alpaca": "instruction input output text",
}


@pytest.mark.parametrize("columns", PUBLISHED.values(), ids=PUBLISHED)
def test_published_questions_pass(columns, tmp_path):
    row = {name: "x" for name in columns.split()}
    assert read(tmp_path, row | ({"choices": ["x", "y"]} if "choices" in row else {}))


REWRITE = {
    "prompt": "{} is", "relation_id": "P", "target_new": {"str": "n", "id": "Q"}, "subject": "s",
    "target_true": {"str": "o", "id": "Q"}, "question": "?",
}  # fmt: skip
HOP = {"question": "?", "cloze": "c", "answer": "a", "answer_alias": []}
EDITS = {
    "counterfact": {
        "case_id": 0, "pararel_idx": 1, "requested_rewrite": REWRITE, "paraphrase_prompts": ["x"],
        "neighborhood_prompts": ["y"], "attribute_prompts": ["z"], "generation_prompts": ["g"],
    },
    "mquake": {
        "case_id": 0, "requested_rewrite": [REWRITE], "questions": ["q"], "answer": "a", "answer_alias": [],
        "new_answer": "b", "new_answer_alias": [], "single_hops": [HOP], "new_single_hops": [HOP], "orig": {},
    },
    "zsre": {
        "subject": "s", "src": "q", "pred": "p", "rephrase": "r", "alt": "n", "answers": ["o"], "loc": "l",
        "loc_ans": "m", "cond": "c", "portability": {"New Question": "k", "New Answer": "a"},
    },
    "knowedit": {
        "subject": "s", "prompt": "p", "target_new": "n", "ground_truth": ["o"], "rephrase": "r",
        "rephrase_prompt": "r", "pageid": 3, "locality": {}, "portability": {}, "cond": "c",
    },
    "wikibio": {"text": "t", "labels": "l", "concept": "c", "locality": {}},
    "easyedit": {
        "prompts": "p", "target_new": "n", "ground_truth": "o", "rephrase_prompts": "r", "locality_inputs": {},
    },
}  # fmt: skip


@pytest.mark.parametrize("row", EDITS.values(), ids=EDITS)
def test_published_edits_pass(row, tmp_path):
    assert read(tmp_path, row, kind="edit")


def test_columns_in_other_letters_are_told(tmp_path):
    (problem,) = refused(tmp_path, {"Question": "q", "Answer": "a"})
    assert "line 1: columns Question, Answer; expected" in problem
    assert problem.endswith("; column 'Question': did you mean 'question'? column 'Answer': did you mean 'answer'?")
    whole, row = refused(tmp_path, {"question": "q", "answer": "a"}, {"question": "r", "Answer": "b"})
    assert whole.endswith("rows.jsonl: column 'Answer': did you mean 'answer'?")
    assert row.endswith("line 2: no answer; columns here: question, Answer")


def test_every_column_that_presets_need_is_known():
    needs = {name for presets in PRESETS.values() for preset in presets.values() for name in preset.needs}
    assert needs <= known()
    assert {"edge", "new_answer", "loc_ans", "locality_ground_truth", "new_single_hops", "option4", "gt"} <= known()
