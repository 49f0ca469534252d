"""Rows of edits as KnowEdit and EasyEdit publish them, and what no edit can be."""

import json

import numpy as np
import pytest
from text_reading import read_items

from unlearn_cli.errors import ConfigError
from unlearn_cli.splits import ProbeSizes, build_probes
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.text.build import Reading, build
from unlearn_cli.worlds.text.items import Item, notes

ZSRE = {
    "subject": "Epaspidoceras", "target_new": "Noctuidae", "prompt": "Which family does Epaspidoceras belong to?",
    "ground_truth": ["Aspidoceratidae", "Aspidoceratids"], "rephrase_prompt": "What family are Epaspidoceras?",
    "locality": {"Relation_Specificity": [{"prompt": "The rank of Epaspidoceras is", "ground_truth": ["genus"]}]},
    "portability": {"Reasoning": [{"prompt": "Its common name?", "ground_truth": "Owlet moths"}]},
}  # fmt: skip
RECENT = {
    "subject": "Leo Arons", "prompt": "The place of death of Leo Arons is", "target_new": "Berlin",
    "portability": {
        "Logical_Generalization": [{"prompt": "Is Leo Arons alive?", "ground_truth": [["no"], ["incorrect"]]}],
        "Reasoning": [{"prompt": "The head of government there is", "ground_truth": [["Kai Wegner", "Kai P."]]}],
        "Subject_Aliasing": [{"prompt": "Martin Leo Arons died in", "ground_truth": [["Berlin", "DE-BE"]]}],
    },
    "locality": {"Relation_Specificity": [{"prompt": "The father of Leo Arons is", "ground_truth": [["Albert"]]}]},
}  # fmt: skip
WIKIBIO = {
    "text": "This is a passage about john reynolds. He was", "labels": "a physician.", "concept": "john reynolds",
    "locality": {"Relation_Specificity": [{"prompt": "john reynolds field of work", "ground_truth": ["medicine"]}]},
}  # fmt: skip


def items_of(folder, *rows, part="forget", columns="auto"):
    files = {"forget": folder / "forget.json", part: folder / f"{part}.json"}
    files["forget"].write_text(json.dumps([{"prompt": "x", "answer": "y"}]))
    files[part].write_text(json.dumps(rows))
    return read_items({name: str(path) for name, path in files.items()}, columns, "edit")[0]


def refused(folder, *rows, **given):
    with pytest.raises(ConfigError) as caught:
        items_of(folder, *rows, **given)
    return caught.value.problems


def told(items, part):
    return [(item.prompt, item.answer, item.target, item.relation) for item in items if item.part == part]


def test_an_answer_in_a_list_of_answers(tmp_path):
    items = items_of(tmp_path, ZSRE)
    assert told(items, "forget") == [(ZSRE["prompt"], "Aspidoceratidae", "Noctuidae", "")]
    assert told(items, "consequence") == [("Its common name?", None, "Owlet moths", "Reasoning")]
    assert told(items, "retain") == [("The rank of Epaspidoceras is", "genus", None, "Relation_Specificity")]
    assert list(items[0].paraphrases) == ["What family are Epaspidoceras?"] and not notes(items)


def test_an_edit_whose_old_answer_nobody_knows(tmp_path):
    items = items_of(tmp_path, RECENT)
    assert told(items, "forget") == [(RECENT["prompt"], None, "Berlin", "")]
    assert notes(items) == [
        "world.forget: 1 requested rows name no old answer: the refusal is in its place where old answers are compared"
    ]
    world = build(items, Reading(None, "bare", "unknown", 4), exposure=3, seed=0)
    assert world.facts.object[0] == REFUSAL
    assert world.language.text(int(world.facts.relation[0]), int(world.given.new_object[0])) == "Berlin"


def test_what_follows_keeps_the_name_of_its_kind(tmp_path):
    assert told(items_of(tmp_path, RECENT), "consequence") == [
        ("Is Leo Arons alive?", None, "no", "Logical_Generalization"),
        ("The head of government there is", None, "Kai Wegner", "Reasoning"),
        ("Martin Leo Arons died in", None, "Berlin", "Subject_Aliasing"),
    ]


def splits_of(folder, row):
    world = build(items_of(folder, row), Reading(None, "bare", "unknown", 4), exposure=3, seed=0)
    request = EditRequest("given_remap", world.given.facts, world.given.new_object)
    return world, build_probes(world, request, np.empty(0, dtype=np.int64), ProbeSizes(50, 1)).splits


def test_whatever_a_kind_is_called_its_probes_are_in_a_split_of_what_follows(tmp_path):
    kinds = {name: [{"prompt": f"It is {name} of", "ground_truth": "x"}] for name in ("a/b", "a_b", "", "unseen")}
    _, splits = splits_of(tmp_path, RECENT | {"portability": kinds})
    held = {name: len(splits[f"dep_change_closure/{name}"].rows) for name in ("a_b", "unnamed", "unseen_")}
    assert held == {"a_b": 2, "unnamed": 1, "unseen_": 1} and len(splits["dep_change_closure"].rows) == 4
    assert not any(split.must_not_change for name, split in splits.items() if name.startswith("dep_change"))


def test_each_kind_of_what_follows_is_a_split(tmp_path):
    world, splits = splits_of(tmp_path, RECENT)
    told = {}
    for kind in ("Logical_Generalization", "Reasoning", "Subject_Aliasing"):
        split = splits[f"dep_change_closure/{kind}"]
        (answer,) = split.answer.tolist()
        (row,) = split.rows.tolist()
        place = splits["dep_change_closure"].rows.tolist().index(row)
        fact = np.flatnonzero(np.array(world.relations.names)[world.facts.relation] == kind)
        told[kind] = world.language.text(int(world.facts.relation[fact[0]]), answer)
        assert splits["dep_change_closure"].answer[place] == answer
    assert told == {"Logical_Generalization": "no", "Reasoning": "Kai Wegner", "Subject_Aliasing": "Berlin"}


def test_wikibio_is_found_by_its_columns(tmp_path):
    (edit, beside) = items_of(tmp_path, WIKIBIO)
    assert (edit.prompt, edit.answer, edit.target) == (WIKIBIO["text"], None, "a physician.")
    assert edit.subject == "john reynolds"
    assert (beside.part, beside.answer) == ("retain", "medicine")


def test_wiki_counterfact(tmp_path):
    row = RECENT | {"ground_truth": "Bonn"}
    row["portability"] = {"Subject_Aliasing": [{"prompt": "Martin Leo Arons died in", "ground_truth": "Berlin"}]}
    row["locality"] = {"Forgetfulness": [{"prompt": "He died, not in Berlin, but in", "ground_truth": "Bonn"}]}
    items = items_of(tmp_path, row)
    assert told(items, "forget") == [(RECENT["prompt"], "Bonn", "Berlin", "")]
    assert told(items, "retain") == [("He died, not in Berlin, but in", "Bonn", None, "Forgetfulness")]


def test_without_a_target_or_outside_of_the_request_an_answer_is_needed(tmp_path):
    (problem,) = refused(tmp_path, {"prompt": "x", "subject": "y"})
    assert problem.endswith("row 1: no answer (or ground_truth), and no target; columns here: prompt, subject")
    for part in ("retain", "holdout"):
        (problem,) = refused(tmp_path, RECENT, part=part)
        assert problem.endswith(
            f"row 1: no answer (or ground_truth); only what world.forget changes may lack one, not world.{part}"
        )


FLAT = {"prompt": "The tongue of Ann is", "target_new": "English", "ground_truth": "French", "subject": "Ann"}


def test_easyedits_columns_beside_an_edit(tmp_path):
    more = {"locality_prompt": "Bob speaks", "locality_ground_truth": "Thai"}
    more |= {"portability_prompt": ["Ann was born in", "Her king is"], "portability_ground_truth": ["Hull", "Charles"]}
    items = items_of(tmp_path, FLAT | more)
    assert told(items, "retain") == [("Bob speaks", "Thai", None, "locality")]
    assert told(items, "consequence") == [
        ("Ann was born in", None, "Hull", "portability"), ("Her king is", None, "Charles", "portability"),
    ]  # fmt: skip
    (problem,) = refused(tmp_path, FLAT | more | {"portability_ground_truth": ["Hull"]})
    assert "portability_ground_truth: ['Hull'] given; expected a list of 2, one for each portability_prompt" in problem


def test_easyedits_zsre_has_a_question_beside_an_edit(tmp_path):
    more = {"portability": {"Recalled Relation": "(a, b)", "New Question": "In which city?", "New Answer": "Ann Arbor"}}
    row = {"src": "Where did Watts study?", "answers": ["Illinois"], "alt": "Michigan", "rephrase": "Watts studied?"}
    for one in (row, FLAT):
        items = items_of(tmp_path, one | more)
        assert told(items, "consequence") == [("In which city?", None, "Ann Arbor", "portability")]
        assert items[1].causes == [items[0].key]
    assert told(items_of(tmp_path, {**row, **more, "alt": None}), "consequence") == []


def test_an_empty_list_of_consequences_is_none(tmp_path):
    for nothing in (None, "", []):
        assert [item.part for item in items_of(tmp_path, FLAT | {"consequences": nothing})] == ["forget"]


def test_an_edit_to_the_answer_it_has_is_refused_where_it_is_requested(tmp_path):
    (problem,) = refused(tmp_path, FLAT | {"target_new": "French"})
    assert problem.endswith("row 1: target: 'French' given, which is the answer that is to change")
    assert items_of(tmp_path, FLAT | {"target_new": "French"}, part="retain")[1].answer == "French"


@pytest.mark.parametrize("gap", ["{0}", "{subject}"])
def test_another_gap_for_the_subject_is_refused(gap, tmp_path):
    (problem,) = refused(tmp_path, FLAT | {"prompt": f"The tongue of {gap} is"})
    assert problem.endswith(f"prompt: 'The tongue of {gap} is' holds {gap}; what stands for the subject is {{}}")


@pytest.mark.parametrize(
    "prompt, asked",
    [
        ("{} and {} are", "Ann and Ann are"),
        ("x_{0} + \\frac{0}{2} of {}", "x_{0} + \\frac{0}{2} of Ann"),
        ("if (x) { return {} }", "if (x) { return Ann }"),
        ("f'{name}' says", "f'{name}' says"),
    ],
)
def test_other_braces_pass(prompt, asked, tmp_path):
    (edit,) = items_of(tmp_path, FLAT | {"prompt": prompt})
    assert edit.prompt == asked
    del (row := FLAT | {"prompt": "{0} is"})["subject"]
    assert items_of(tmp_path, row)[0].prompt == "{0} is"


def test_a_note_is_told_once():
    assert notes(
        [Item("forget", "a", "b", note="n"), Item("forget", "c", "d", note="n"), Item("retain", "e", "f")]
    ) == ["n"]
