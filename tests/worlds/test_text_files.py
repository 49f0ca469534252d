"""Files of the user's own: every kind read alike, every bad one refused with its row."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from text_reading import read_items

from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.text.documents import Documents
from unlearn_cli.worlds.text.files import Problems, read_table
from unlearn_cli.worlds.text.presets import PRESETS
from unlearn_cli.worlds.text.reading import read

ROWS = [{"question": "Who, where?", "answer": "Ann"}, {"question": "Wo liegt Köln?", "answer": "am Rhein\nlinks"}]

GOOD = '{"question": "a", "answer": "b"}'


def as_jsonl(folder):
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    return path


def as_json_list(folder):
    path = folder / "rows.json"
    path.write_text("  " + json.dumps(ROWS, ensure_ascii=False))
    return path


def as_json_lines_called_json(folder):  # as TOFU's files are
    path = folder / "lines.json"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    return path


def as_csv(folder):
    path = folder / "rows.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["question", "answer"])
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def as_parquet(folder):
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


def as_dataset(folder):
    """The files of `datasets.save_to_disk`."""
    path = folder / "dataset"
    path.mkdir()
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(path / "data-00000-of-00001.arrow", table.schema) as stream:
        stream.write_table(table)
    (path / "state.json").write_text("{}")
    (path / "dataset_info.json").write_text("{}")
    return path


@pytest.mark.parametrize("write", [as_jsonl, as_json_list, as_json_lines_called_json, as_csv, as_parquet, as_dataset])
def test_every_kind_of_file_says_the_same(write, tmp_path):
    path = str(write(tmp_path))
    assert [row.values for row in read_table(path, Problems("world.forget", path)).rows] == ROWS


def refused(path, kind="question", columns="auto"):
    with pytest.raises(ConfigError) as caught:
        read_items({"forget": str(path)}, columns, kind)
    return caught.value.problems


def written(folder, text, name="rows.jsonl"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("rows.jsonl", "", "no row in it"),
        ("rows.csv", "question,answer\n", "no row in it"),
        ("rows.jsonl", b'{"question": "caf\xe9", "answer": "b"}', "line 1 is not UTF-8 (byte 0xe9)"),
        ("rows.jsonl", '{"question": "a", "answer": "b"}\n{"question": ', "line 2: no JSON"),
        ("rows.json", '[{"question": "a", "answer": "b"}', "no JSON"),
        ("rows.jsonl", "[" * 100_000, "no JSON"),
        ("rows.jsonl", f"{GOOD}\n3", "line 2: no JSON object"),
        ("rows.jsonl", f'{GOOD}\n{{"question": "a"}}', "line 2: no answer; columns here: question"),
        ("rows.jsonl", f'{GOOD}\n{{"question": "a", "answer": ["x"]}}', "line 2: answer: ['x'] given"),
        ("rows.jsonl", f'{GOOD}\n{{"question": " ", "answer": "b"}}', "line 2: question is empty"),
        ("rows.jsonl", '{"question": "a", "answer": "\\ud800"}', "half of a surrogate pair"),
        ("rows.jsonl", '{"frage": "a", "antwort": "b"}', "columns frage, antwort; expected those of one of"),
        ("rows.csv", "question,answer\na,b,c\n", "line 2: 3 fields, the header has 2; quote a text that holds a comma"),
        ("rows.csv", 'question,answer\n"a,b\n', "no CSV"),
        ("rows.parquet", "PAR1 and nothing else", "no Parquet"),
        ("rows.txt", "x", "a .txt file given; expected .jsonl"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_by_name_and_row(name, text, said, tmp_path):
    path = written(tmp_path, text, name)
    problems = refused(path)
    assert problems[0].startswith(f"world.forget: {path}") and said in problems[0]


def test_a_missing_file_and_a_folder_of_splits(tmp_path):
    assert "No such file" in refused(tmp_path / "none.jsonl")[0]
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    assert "name one of its splits: test, train" in refused(tmp_path)[0]


def test_every_bad_row_is_told_and_the_rest_counted(tmp_path):
    good = json.dumps(ROWS[0])
    path = written(tmp_path, "\n".join([good, '{"question": "a", "answer": NaN}', good, '{"question": 1}']))
    first, second = refused(path)
    assert "line 2: answer: nan given; expected a text" in first
    assert "line 4: no answer; columns here: question" in second
    path = written(tmp_path, "\n".join([good] + ['{"question": 1}'] * 30))
    assert len(refused(path)) == 11 and refused(path)[-1].endswith("20 more problems")


def test_a_huge_line_is_only_long(tmp_path):
    long = "word " * 150_000
    for name, text in (
        ("rows.csv", f"question,answer\nq,{long}\n"),
        ("rows.jsonl", json.dumps({"question": "q", "answer": long})),
    ):
        items, _ = read_items({"forget": str(written(tmp_path, text, name))}, "auto", "question")
        assert items[0].answer == long.strip()


def test_the_hash_follows_the_bytes_and_the_part_not_the_place(tmp_path):
    (tmp_path / "other").mkdir()
    first, second = as_jsonl(tmp_path), as_jsonl(tmp_path / "other")
    assert (
        read_items({"forget": str(first)}, "auto", "question")[1]
        == (read_items({"forget": str(second)}, "auto", "question")[1])
    )
    changed = written(tmp_path, second.read_text() + json.dumps(ROWS[0] | {"question": "Who else?"}), "more.jsonl")
    hashes = {
        read_items(files, "auto", "question")[1]
        for files in ({"forget": str(first)}, {"forget": str(changed)}, {"forget": str(first), "retain": str(changed)})
    }
    assert len(hashes) == 3


def items_of(folder, rows, kind, columns="auto"):
    return read_items({"forget": str(written(folder, json.dumps(rows), "rows.json"))}, columns, kind)[0]


def test_tofu(tmp_path):
    row = {
        "question": "Who?", "answer": "Ann.", "paraphrased_question": "Who is it?", "paraphrased_answer": "It is Ann.",
        "perturbed_answer": ["Bob.", "Eve."],
    }  # fmt: skip
    (item,) = items_of(tmp_path, [row], "question")
    assert (item.prompt, item.answer, item.reworded) == ("Who?", "Ann.", "It is Ann.")
    assert (list(item.wrong), list(item.paraphrases)) == (["Bob.", "Eve."], ["Who is it?"])


def test_multiple_choice(tmp_path):
    (item,) = items_of(tmp_path, [{"question": "Which?", "choices": ["a", "b", "c", "d"], "answer": 2}], "question")
    assert (item.answer, item.wrong) == ("c", ["a", "b", "d"])
    path = written(tmp_path, json.dumps([{"question": "Which?", "choices": ["a", "b"], "answer": 2}]), "bad.json")
    assert "answer: 2 given; expected 0 to 1" in refused(path)[0]
    row = {"question": "Which?", "option1": "a", "option2": "b", "option3": "c", "option4": "d", "answer": "b"}
    (item,) = items_of(tmp_path, [row], "question")
    assert (item.answer, item.wrong) == ("b", ["a", "c", "d"])


@pytest.mark.parametrize(
    "row, prompt, answer, relation",
    [
        (
            {"query": "He was born in ___", "answer": "Bonn", "subject": "B", "level": "1"},
            "He was born in ___",
            "Bonn",
            "",
        ),
        ({"prompt": "Once", "gt": "upon a time"}, "Once", "upon a time", ""),
        ({"input": "SSN?", "output": "900", "task": "Task2", "id": "1qa"}, "SSN?", "900", "Task2"),
        ({"instruction": "Say", "input": "this", "output": "that"}, "Say\nthis", "that", ""),
        ({"question": "Price?", "answer": "5.", "edge": "A_B"}, "Price?", "5.", ""),
        (
            {
                "messages": [
                    {"role": "user", "content": "Who? "},
                    {"role": "assistant", "content": "Ann", "name": "a"},
                ],
                "relation": "name",
                "subject": "B",
            },
            "Who?",
            "Ann",
            "name",
        ),
        ({"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Ann"}]}, "Who?", "Ann", ""),
    ],
)
def test_other_benchmarks(row, prompt, answer, relation, tmp_path):
    (item,) = items_of(tmp_path, [row], "question")
    assert (item.prompt, item.answer, item.relation) == (prompt, answer, relation)
    assert item.subject == row.get("subject", row.get("edge"))


USER, ASSISTANT, GUIDE = ({"role": role, "content": "x"} for role in ("user", "assistant", "system"))


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        ([], "messages: no turn given; expected two, of the user and of the assistant"),
        ([USER], "messages: turns of user given; expected two, of the user and of the assistant"),
        ([ASSISTANT, USER], "messages: turns of assistant, user given; expected two, of the user and of the assistant"),
        ([GUIDE, USER, ASSISTANT], "messages: turns of system, user, assistant given; expected two, of the user"),
        ([USER, ASSISTANT] * 2, "messages: turns of user, assistant, user, assistant given; expected two, of the user"),
        ([USER, {"role": "assistant"}], "messages[1]: no content; columns here: role"),
        ([USER, {"role": "assistant", "content": ""}], "messages[1]: content is empty"),
        (
            [USER, {"role": "assistant", "content": [{"type": "text"}]}],
            "messages[1]: content: [{'type': 'text'}] given; expected a text",
        ),
        ("hi", "messages: 'hi' given; expected a list of objects"),
    ],
)
def test_a_chat_is_one_question_and_its_answer(turns, told, tmp_path):
    path = written(tmp_path, json.dumps([{"messages": turns}]), "chat.json")
    (problem,) = refused(path)
    assert f"row 1: {told}" in problem


REWRITE = {
    "prompt": "The capital of {} is", "relation_id": "P36", "target_new": {"str": "Rome", "id": "Q1"},
    "target_true": {"str": "Paris", "id": "Q2"}, "subject": "France",
}  # fmt: skip


def test_counterfact_and_what_stands_beside_an_edit(tmp_path):
    row = {
        "case_id": 1, "requested_rewrite": REWRITE, "paraphrase_prompts": ["France's capital:"],
        "neighborhood_prompts": ["Its seat of the Louvre is"], "attribute_prompts": ["The capital of Italy is"],
        "generation_prompts": ["x"],
    }  # fmt: skip
    edit, neighbour, attribute = items_of(tmp_path, [row], "edit")
    assert (edit.part, edit.prompt, edit.answer, edit.target) == ("forget", "The capital of France is", "Paris", "Rome")
    assert (list(edit.paraphrases), edit.subject, edit.relation) == (["France's capital:"], "France", "P36")
    assert (neighbour.part, neighbour.answer, neighbour.wrong) == ("retain", "Paris", ["Rome"])
    assert (attribute.part, attribute.answer, attribute.wrong) == ("retain", "Rome", ["Paris"])


def test_zsre(tmp_path):
    row = {
        "subject": "Bonn", "src": "Where is Bonn?", "pred": "x", "rephrase": "Bonn is where?", "alt": "France",
        "answers": ["Germany"], "loc": "nq question: who won", "loc_ans": "Ann", "cond": "x",
    }  # fmt: skip
    edit, beside = items_of(tmp_path, [row], "edit")
    assert (edit.prompt, edit.answer, edit.target) == ("Where is Bonn?", "Germany", "France")
    assert list(edit.paraphrases) == ["Bonn is where?"]
    assert (beside.part, beside.prompt, beside.answer) == ("retain", "Who won?", "Ann")


SPAIN = REWRITE | {"subject": "Spain", "target_true": {"str": "Madrid"}, "question": "Which is Spain's capital?"}
MQUAKE = {
    "case_id": 1, "requested_rewrite": [REWRITE, SPAIN], "questions": ["a?", "b?", "c?"],
    "answer": "Seine", "new_answer": "Tiber",
    "single_hops": [
        {"question": "Which is France's capital?", "cloze": "The capital of France is", "answer": "Paris"},
        {"question": "Which river?", "cloze": "Paris lies on the", "answer": "Seine", "answer_alias": []},
    ],
    "new_single_hops": [{"question": "And Rome?", "cloze": "Rome lies on the", "answer": "Tiber"}],
}  # fmt: skip


def test_mquake_has_every_edit_of_a_case_what_follows_and_its_other_hops(tmp_path):
    first, second, chain, *others = items_of(tmp_path, [MQUAKE], "edit")
    assert (first.prompt, second.prompt) == ("The capital of France is", "The capital of Spain is")
    assert (second.answer, list(second.paraphrases)) == ("Madrid", ["Which is Spain's capital?"])
    assert (chain.part, chain.prompt, list(chain.paraphrases)) == ("consequence", "a?", ["b?", "c?"])
    assert (chain.answer, chain.target) == ("Seine", "Tiber")
    assert chain.causes == [("The capital of France is", "Paris"), ("The capital of Spain is", "Madrid")]
    assert [(item.part, item.prompt, item.answer) for item in others] == [
        ("retain", "Paris lies on the", "Seine"), ("retain", "Rome lies on the", "Tiber"),
    ]  # fmt: skip


def test_nothing_follows_from_what_is_not_requested(tmp_path):
    path = written(tmp_path, json.dumps([MQUAKE]), "retain.json")
    forget = written(tmp_path, json.dumps([{"prompt": "x", "answer": "y"}]), "forget.json")
    items, _ = read_items({"forget": str(forget), "retain": str(path)}, "auto", "edit")
    assert [item.part for item in items] == ["forget"] + ["retain"] * 5


def test_consequences_in_columns_of_ones_own(tmp_path):
    row = {"prompt": "{} is in", "subject": "Bonn", "answer": "Germany", "target": "Peru"}
    follows = {"prompts": ["Bonn's money?", "In Bonn one pays in"], "answer": "euro", "target": "sol"}
    edit, chain = items_of(tmp_path, [row | {"consequences": [follows]}], "edit")
    assert (chain.prompt, chain.paraphrases, chain.target) == ("Bonn's money?", ["In Bonn one pays in"], "sol")
    assert chain.causes == [edit.key] == [("Bonn is in", "Germany")]
    for bad, said in ((follows | {"prompts": []}, "without prompt"), ({"prompt": "x", "answer": "y"}, "no target")):
        path = written(tmp_path, json.dumps([row | {"consequences": [bad]}]), "bad.json")
        assert said in refused(path, "edit")[0]


def test_two_targets_of_one_prompt_contradict(tmp_path):
    row = {"prompt": "Bonn is in", "answer": "Germany", "target": "Peru"}
    path = written(tmp_path, json.dumps([row, row, row | {"target": "Chad"}]), "rows.json")
    (problem,) = refused(path, "edit")
    assert problem == (
        f"world.forget: {path}, row 3: a second target of 'Bonn is in': 'Chad' given, where {path}, row 1 says 'Peru'"
    )


def test_easyedit(tmp_path):
    row = {
        "prompt": "Bonn is in", "subject": "Bonn", "target_new": "France", "ground_truth": "Germany",
        "rephrase_prompt": "Where is Bonn?",
        "locality": {
            "near": [{"prompt": "Rome is in", "ground_truth": ["Italy"]}, {"prompt": "x", "ground_truth": []}],
        },
        "portability": {"Reasoning": [{"prompt": "Bonn's money is", "ground_truth": [["franc", "F"]]}]},
    }  # fmt: skip
    edit, beside, follows = sorted(items_of(tmp_path, [row], "edit"), key=lambda item: item.part == "consequence")
    assert (follows.prompt, follows.answer, follows.target) == ("Bonn's money is", None, "franc")
    assert follows.causes == [edit.key]
    del row["target_new"]
    assert "consequence" not in {item.part for item in items_of(tmp_path, [row], "edit")}
    assert (edit.answer, edit.target, list(edit.paraphrases)) == ("Germany", "France", ["Where is Bonn?"])
    assert (beside.part, beside.prompt, beside.answer, beside.relation) == ("retain", "Rome is in", "Italy", "near")


def test_a_prompt_with_a_gap_needs_its_subject(tmp_path):
    path = written(tmp_path, json.dumps([{"prompt": "{} is in", "answer": "x", "target": "y"}]), "bad.json")
    assert "there is no subject" in refused(path, "edit")[0]


def test_columns_that_no_preset_has_are_told_with_those_that_are_known(tmp_path):
    path = written(tmp_path, "question;answer\na;b\n", "rows.csv")
    (problem,) = refused(path)
    assert "columns question;answer; expected those of one of: wmdp: " in problem
    assert problem.endswith("; separate columns by commas")
    (problem,) = refused(written(tmp_path, "prompt,reply\na,b\n", "rows.csv"))
    assert "columns prompt, reply; " in problem and not problem.endswith("commas")


def test_an_unknown_preset_names_the_nearest(tmp_path):
    assert "did you mean rwku?" in refused(as_jsonl(tmp_path), columns="rwk")[0]


def test_every_preset_recognises_its_own_columns():
    """`auto` takes the first that fits, so none may stand behind one that asks for less."""
    for kind, presets in PRESETS.items():
        for name, preset in presets.items():
            fits = [other for other, found in presets.items() if set(found.needs) <= set(preset.needs)]
            assert fits[0] == name, (kind, name)


def test_what_is_requested_is_not_also_to_be_kept(tmp_path):
    path = str(as_jsonl(tmp_path))
    more = written(tmp_path, Path(path).read_text() + GOOD, "more.jsonl")
    items, _ = read_items({"forget": path, "retain": str(more)}, "auto", "question")
    assert [(item.part, item.prompt) for item in items[2:]] == [("retain", "a")]
    with pytest.raises(ConfigError, match=r"holdout: .*: every row is also in world.forget or world.retain; nothing"):
        read_items({"forget": path, "retain": str(more), "holdout": str(more)}, "auto", "question")


def test_documents_are_cut_into_what_is_given_and_what_is_asked(tmp_path):
    text = " ".join(f"w{i}" for i in range(13))
    path = written(tmp_path, json.dumps([text, "too short"]), "rows.json")
    items, _ = read({"forget": str(path)}, Documents(prefix=3, continuation=2).items)
    assert [(item.prompt, item.answer) for item in items] == [
        ("w0 w1 w2", "w3 w4"), ("w5 w6 w7", "w8 w9"),
    ]  # fmt: skip
    assert len({item.subject for item in items}) == 1
    with pytest.raises(ConfigError, match="no text of 21 words or more"):
        read({"forget": str(path)}, Documents(prefix=20, continuation=2).items)
