"""Cells of a table that hold lists, the right one of several choices, and subjects of two."""

import csv
import json

import pytest
from text_reading import read_items

from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.text.files import Problems, read_table


def as_csv(folder, **row):
    path = folder / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)
    return path


def as_json(folder, **row):
    path = folder / "rows.json"
    path.write_text(json.dumps([row]))
    return path


def item_of(path, kind="question"):
    return read_items({"forget": str(path)}, "auto", kind)[0][0]


def refused(path, kind="question"):
    with pytest.raises(ConfigError) as caught:
        item_of(path, kind)
    (problem,) = caught.value.problems
    return problem


ASKED = {"question": "Who?", "answer": "Ann"}


@pytest.mark.parametrize(
    "cell, texts",
    [
        ("['Bob', 'Eve']", ["Bob", "Eve"]),
        ('["Bob", "Eve"]', ["Bob", "Eve"]),
        ("""["Bob's", 'the "Eve"']""", ["Bob's", 'the "Eve"']),
        ("['Bob',\n 'Eve']", ["Bob", "Eve"]),
        ("['Bob']", ["Bob"]),
        ("[1, 2]", ["1", "2"]),
        ("Bob", ["Bob"]),
        ("[sic] Bob", ["[sic] Bob"]),
        ("", []),
        ("[]", []),
    ],
)
def test_a_list_in_a_table_is_read_as_one(cell, texts, tmp_path):
    assert list(item_of(as_csv(tmp_path, **ASKED, perturbed_answer=cell)).wrong) == texts


@pytest.mark.parametrize("cell", ["['Bob' 'Eve']", "['Bob'\n 'Eve']", "[Bob]", "['Bob' ... 'Eve']", "[nan]", "['Bob]"])
def test_what_is_no_list_is_refused_by_row_and_column(cell, tmp_path):
    path = as_csv(tmp_path, **ASKED, perturbed_answer=cell)
    problem = refused(path)
    assert problem == (
        f"world.forget: {path}, line 2: perturbed_answer: '{cell}' given; "
        'what stands in [] is a list of texts, as ["one", "two"]'
    )


def test_other_files_have_lists_of_their_own(tmp_path):
    assert list(item_of(as_json(tmp_path, **ASKED, perturbed_answer="['Bob' 'Eve']")).wrong) == ["['Bob' 'Eve']"]
    assert item_of(as_csv(tmp_path, question="Who?", answer="[1]")).answer == "[1]"  # a column of one text


def test_a_table_in_a_folder_is_read_as_one_too(tmp_path):
    (tmp_path / "data").mkdir()
    as_csv(tmp_path / "data", **ASKED, perturbed_answer="['Bob', 'Eve']")
    assert list(item_of(tmp_path / "data").wrong) == ["Bob", "Eve"]
    path = str(tmp_path / "data")
    assert read_table(path, Problems("world.forget", path)).rows[0].flat


def test_an_edit_in_a_table(tmp_path):
    row = {"prompt": "Bonn is in", "ground_truth": "['Germany', 'the FRG']", "target_new": "Peru", "consequences": ""}
    row |= {"locality_prompt": "['a is', 'b is']", "locality_ground_truth": "['x', 'y']"}
    items, _ = read_items({"forget": str(as_csv(tmp_path, **row))}, "auto", "edit")
    assert (items[0].answer, items[0].target) == ("Germany", "Peru")
    assert [(item.prompt, item.answer) for item in items[1:]] == [("a is", "x"), ("b is", "y")]


WAR = ["Mars", "Venus", "Ares", "Eris"]


@pytest.mark.parametrize(
    "answer, right", [("1", "Venus"), ("0", "Mars"), (" 3 ", "Eris"), ("B", "Venus"), ("d", "Eris"), ("Ares", "Ares")]
)
def test_the_right_choice_of_a_table(answer, right, tmp_path):
    item = item_of(as_csv(tmp_path, question="Who?", choices=str(WAR), answer=answer))
    assert item.answer == right
    assert item.wrong == [choice for choice in WAR if choice != right]


@pytest.mark.parametrize(
    "choices, answer, right",
    [
        (["3", "1"], "1", "1"),
        (["3", "1"], 0, "3"),
        (["B", "A"], "A", "A"),
        (["x", "y"], "a", "x"),
        (["7", "8"], 1, "8"),
    ],
)
def test_a_choice_that_says_so_itself_comes_first(choices, answer, right, tmp_path):
    assert item_of(as_json(tmp_path, question="Which?", choices=choices, answer=answer)).answer == right


@pytest.mark.parametrize("answer", ["4", "E", "-1", "1.0", "Zeus", "²", "", 4, True, None])
def test_what_is_no_choice_is_told_with_all_that_is(answer, tmp_path):
    problem = refused(as_json(tmp_path, question="Who?", choices=WAR, answer=answer))
    assert problem.endswith("; expected 0 to 3, the place of the right choice, A to D, or its text")


def test_choices_of_numpy_and_a_single_one_are_refused(tmp_path):
    assert "choices: '['a' 'b']' given" in refused(as_csv(tmp_path, question="?", choices="['a' 'b']", answer="0"))
    problem = refused(as_csv(tmp_path, question="?", choices="a, b", answer="0"))
    assert problem.endswith("choices: ['a, b'] given; expected a list of two or more")


def test_options_in_columns_of_a_table(tmp_path):
    row = {"question": "2+2?", "option1": "3", "option2": "4", "option3": "5", "option4": "6", "answer": "1"}
    assert item_of(as_csv(tmp_path, **row)).answer == "4"


@pytest.mark.parametrize(
    "more, subject",
    [
        ({"edge": ["A", "B"]}, "A, B"),
        ({"edge": "A_B"}, "A_B"),
        ({"edge": []}, None),
        ({"edge": None}, None),
        ({"group": "g", "edge": ["A", "B"]}, "g"),
        ({"subject": "", "group": "g"}, "g"),
    ],
)
def test_an_edge_has_two_ends(more, subject, tmp_path):
    assert item_of(as_json(tmp_path, **ASKED, **more)).subject == subject
