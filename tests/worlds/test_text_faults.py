"""Files that cannot be read as they stand: told in one sentence, and never read as something else."""

import gzip
import json
import os
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from text_reading import read_items

from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.text.cells import LONGEST
from unlearn_cli.worlds.text.documents import Documents
from unlearn_cli.worlds.text.items import Item
from unlearn_cli.worlds.text.overlap import grams
from unlearn_cli.worlds.text.reading import read

GOOD = '{"question": "a", "answer": "b"}'


def written(folder, text, name="rows.jsonl"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def refused(path, columns="auto", kind="question", **more):
    with pytest.raises(ConfigError) as caught:
        read_items({"forget": path, **more}, columns, kind)
    assert not any("\n" in problem for problem in caught.value.problems)
    return caught.value.problems


def items_of(folder, text, name="rows.jsonl", kind="question"):
    return read_items({"forget": written(folder, text, name)}, "auto", kind)[0]


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("rows.csv", "question,answer, answer\na,b,c\n", ": 2 columns answer; expected one"),
        ("rows.csv", "id,id,question,answer\n1,2,a,b\n", ": 2 columns id; expected one"),
        ("rows.jsonl", f'{GOOD}\n{{"question": "a", "answer": "b", "answer": "c"}}',
         ", line 2: the key answer twice in one object; expected it once"),
        ("rows.json", f'[{GOOD}, {{"question": "a", "answer": "b", "x": [{{"k": 1, "k": 2}}]}}]',
         ", row 2: the key k twice in one object; expected it once"),
        ("rows.csv", "question\tanswer\na\tb\n", ": columns are separated by tabs; separate columns by commas"),
        ("rows.csv", "question;answer,x\na;b,1\n", "; separate columns by commas"),
        ("rows.jsonl", json.dumps({"question": "a", "answer": "b"}, indent=1),
         ": one object over several lines; expected a list, or one object on each line"),
        ("rows.jsonl", f'{GOOD}\n'.replace(", ", ",\n") * 3,
         ": one object over several lines; expected a list, or one object on each line"),
        ("rows.json", json.dumps({"data": [{"question": "a"}]}, indent=1),
         "one object on each line; the list in 'data' must be the file itself"),
        ("rows.json", f'{{"data": [{GOOD}]}}', "; the list in 'data' must be the file itself"),
        ("rows.jsonl", gzip.compress(GOOD.encode(), mtime=0), ": is compressed (gzip); unpack it"),
        ("rows.jsonl", GOOD.encode("utf-16"), ": is UTF-16; save it as UTF-8"),
        ("rows.csv", b"\xfe\xff" + "question,answer".encode("utf-16-be"), ": is UTF-16; save it as UTF-8"),
        ("rows.jsonl", '{"question": "x"}\n' + GOOD, ", line 1: columns question; expected those of one of"),
    ],
)  # fmt: skip
def test_a_file_that_is_written_otherwise_is_refused(name, text, said, tmp_path):
    path = written(tmp_path, text, name)
    (problem,) = refused(path)
    assert problem.startswith(f"world.forget: {path}") and said in problem


def test_columns_without_a_name_are_not_read(tmp_path):
    (item,) = items_of(tmp_path, "question,answer,,\na,b,,\n", "rows.csv")
    assert (item.prompt, item.answer) == ("a", "b")


def test_numbers_stay_as_they_are_written(tmp_path):
    rows = ["2.50", "1e3", "-0", "7", "1" * 5000]
    items = items_of(tmp_path, "\n".join(f'{{"question": "q{n}", "answer": {n}}}' for n in rows))
    assert [item.answer for item in items] == rows
    (item,) = items_of(tmp_path, 'question,answer,perturbed_answer\na,1,"[2.50, 3]"\n', "rows.csv")
    assert list(item.wrong) == ["2.50", "3"]
    (item,) = items_of(tmp_path, '{"question": "a", "choices": ["3", "1"], "answer": 0}')
    assert item.answer == "3"  # a place is no text


@pytest.mark.parametrize("start, stop", [(8, 108), (200, -100), (-400, -100)])
def test_broken_parquet_is_told_in_one_sentence(start, stop, tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([{"question": f"q{n}", "answer": f"a{n}" * 9} for n in range(200)]), path)
    content = path.read_bytes()
    length = len(content[start:stop])
    (problem,) = refused(written(tmp_path, content[:start] + b"\xa5" * length + content[stop:], "rows.parquet"))
    assert problem.startswith(f"world.forget: {path}: no Parquet: ")


def test_broken_arrow_names_its_file(tmp_path):
    for fault in (b"", b"ARROW", b"\xff\xff\xff\xff\x10\x00\x00\x00" + b"\xa5" * 40):
        written(tmp_path, fault, "data.arrow")
        (problem,) = refused(str(tmp_path))
        assert problem.startswith(f"world.forget: {tmp_path}: data.arrow: no Arrow stream: ")


def test_arrow_texts_that_end_before_they_begin(tmp_path):
    table = pa.table({"question": ["a", "b", "c"], "answer": ["d", "e", "f"]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    right, wrong = (struct.pack("<4i", *offsets) for offsets in ((0, 1, 2, 3), (0, 2, 1, 3)))
    written(tmp_path, sink.getvalue().to_pybytes().replace(right, wrong), "data.arrow")
    assert "data.arrow: no Arrow stream: " in refused(str(tmp_path))[0]


def test_two_columns_of_one_name_in_parquet(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table([["a"], ["b"], ["c"]], names=["question", "answer", "answer"]), path)
    assert "answer" in refused(str(path))[0]


def test_paths_that_lead_nowhere(tmp_path):
    assert "~nobody-here/f.jsonl: " in refused("~nobody-here/f.jsonl")[0]
    assert refused("f" * 5000 + ".jsonl")[0].endswith(": File name too long")


@pytest.mark.parametrize("look", ["is_dir", "iterdir", "read_bytes"])
def test_what_may_not_be_read(look, tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(13, os.strerror(13))

    written(tmp_path, GOOD)
    monkeypatch.setattr(Path, look, denied)
    name = ": rows.jsonl" if look == "read_bytes" else ""
    assert refused(str(tmp_path)) == [f"world.forget: {tmp_path}{name}: Permission denied"]


def test_a_bad_row_in_a_folder_names_its_file(tmp_path):
    written(tmp_path, GOOD, "a.jsonl")
    written(tmp_path, f"{GOOD}\n3", "b.jsonl")
    assert refused(str(tmp_path))[0].startswith(f"world.forget: {tmp_path}, b.jsonl line 2: no JSON object")


def test_a_text_that_no_model_reads_is_told_by_its_length(tmp_path):
    path = written(tmp_path, json.dumps({"question": "q", "answer": "x" * (LONGEST + 1)}))
    assert refused(path) == [
        f"world.forget: {path}, line 1: answer: a text of 1000001 characters given; expected at most 1000000"
    ]
    (problem,) = refused(written(tmp_path, json.dumps({"question": "q", "answer": ["x"] * 10_000})))
    assert len(problem) < 500 and "(50000 characters) given; expected a text" in problem


def test_a_document_may_be_long_but_not_its_words(tmp_path):
    long = json.dumps({"text": " ".join(f"word{n}" for n in range(LONGEST // 5))})
    items, _ = read({"forget": written(tmp_path, long)}, Documents(prefix=1000, continuation=1000).items)
    assert len(long) > LONGEST and len(items) == LONGEST // 5 / 2000
    path = written(tmp_path, json.dumps({"text": f"a b {'x' * (LONGEST + 1)}"}))
    with pytest.raises(ConfigError, match="line 1: text: 1 words of 1000001 characters given; expected at most"):
        read({"forget": path}, Documents(prefix=2, continuation=2).items)


def test_faults_of_lines_and_of_cells_are_told_together(tmp_path):
    first, second = refused(written(tmp_path, f'{GOOD}\n{{"question": \n{{"question": "a", "answer": ""}}'))
    assert "line 2: no JSON" in first and "line 3: answer is empty" in second
    whole, row = refused(written(tmp_path, '{"frage": "a"}\n3'))
    assert "line 1: columns frage" in whole and "line 2: no JSON object" in row


def asked(folder, name, *rows):
    return written(folder, "\n".join(map(json.dumps, rows)), f"{name}.jsonl")


CAPITAL = {"question": "The capital?", "answer": "Paris"}


def test_what_must_stay_and_answers_a_request_otherwise_is_told(tmp_path):
    """Unsafe and safe answers to one prompt are such data, and so is a mistake."""
    forget = asked(tmp_path, "forget", CAPITAL)
    retain = asked(tmp_path, "retain", {"question": "b", "answer": "c"}, CAPITAL | {"answer": "Rome"})
    items, _ = read_items({"forget": forget, "retain": retain}, "auto", "question")
    told = f"1 rows answer a requested question otherwise, as {retain}, line 2 and {forget}, line 1"
    assert {item.note for item in items} == {"", f"world.retain: {told}"}


def test_the_same_words_may_ask_something_else(tmp_path):
    forget = asked(tmp_path, "forget", CAPITAL | {"subject": "France"})
    retain = asked(tmp_path, "retain", CAPITAL | {"subject": "Italy", "answer": "Rome"})
    assert len(read_items({"forget": forget, "retain": retain}, "auto", "question")[0]) == 2
    choices = {"question": "Which is true?", "answer": 0}
    forget = asked(tmp_path, "forget", choices | {"choices": ["a", "b"]})
    retain = asked(tmp_path, "retain", choices | {"choices": ["c", "d"]})
    for columns in ("auto", "wmdp"):
        assert len(read_items({"forget": forget, "retain": retain}, columns, "question")[0]) == 2
    edit = {"prompt": "The capital is", "answer": "Paris", "target": "Rome"}
    forget = asked(tmp_path, "forget", edit)
    retain = asked(tmp_path, "retain", {"prompt": "The capital is", "answer": "Oslo"})
    assert len(read_items({"forget": forget, "retain": retain}, "auto", "edit")[0]) == 2


def test_several_answers_within_a_file_are_counted(tmp_path):
    path = asked(tmp_path, "forget", CAPITAL, CAPITAL, CAPITAL | {"answer": "Rome"}, CAPITAL | {"answer": "Oslo"})
    items, _ = read_items({"forget": path}, "auto", "question")
    assert [item.answer for item in items] == ["Paris", "Rome", "Oslo"]
    assert {item.note for item in items} == {
        f"world.forget: 2 rows answer a question otherwise than a row before, as {path}, line 3 and {path}, line 1"
    }


def test_an_answer_that_nobody_knows_is_no_word():
    assert grams(Item("forget", "a b c", None)) == {("a", "b", "c")}
