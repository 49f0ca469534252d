"""Documents in pieces: of every script, as they stand in the file, with what is left out told."""

import json

import pytest

from unlearn_cli.worlds.text.documents import Documents, words
from unlearn_cli.worlds.text.items import notes
from unlearn_cli.worlds.text.reading import read


def parts(text):
    return [text[start:end] for start, end in words(text)]


def pieces(folder, texts, prefix, continuation, **more):
    paths = {}
    for part, held in {"forget": texts, **more}.items():
        (path := folder / f"{part}.json").write_text(json.dumps(held))
        paths[part] = str(path)
    return read(paths, Documents(prefix=prefix, continuation=continuation).items)[0]


@pytest.mark.parametrize(
    "text, found",
    [
        ("上海是直辖市、位于长江。", ["上", "海", "是", "直", "辖", "市、", "位", "于", "长", "江。"]),
        ("「はい」とAppleは言った", ["「", "は", "い」", "と", "Apple", "は", "言", "っ", "た"]),
        ("ภาษาไทยที่นี่", ["ภ", "า", "ษ", "า", "ไ", "ท", "ย", "ที่", "นี่"]),
        ("北京大学 GPT-4 模型很大很强", ["北", "京", "大", "学", "GPT-4", "模", "型", "很", "大", "很", "强"]),
    ],
)  # fmt: skip
def test_characters_of_scripts_without_blanks_are_words(text, found):
    assert parts(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "Plain text, as ever.",
        "The city of 上海 is large and the name 上海市 is Chinese.",
        "上海 是 中国 的 直辖市",  # told apart already
        "서울은 대한민국의 수도이다",
        "Donaudampfschifffahrtsgesellschaftskapitän",
    ],
)
def test_blanks_part_words_where_there_are_some(text):
    assert parts(text) == text.split()


def test_a_chinese_text_is_cut_like_any_other(tmp_path):
    items = pieces(tmp_path, ["上海是中华人民共和国的直辖市"], 3, 4)
    assert [(item.prompt, item.answer) for item in items] == [("上海是", "中华人民"), ("共和国", "的直辖市")]


def test_what_stands_between_words_stays(tmp_path):
    items = pieces(tmp_path, ["  a  b\n\nc \t d\ne   f\ng h "], 3, 2)
    assert [(item.prompt, item.answer) for item in items] == [("a  b\n\nc", "d\ne")]
    items = pieces(tmp_path, [" ".join("abcdefgh")], 2, 2)
    assert [(item.prompt, item.answer) for item in items] == [("a b", "c d"), ("e f", "g h")]


def test_documents_without_piece_and_tails_are_told(tmp_path):
    texts = ["w " * 13, "a b c", "one", "x " * 10, "y " * 9]  # tails of 3, none, none (short ones), 0 and 4, asked
    items = pieces(tmp_path, texts, 3, 2)
    assert notes(items) == [
        "world.forget: 2 of 5 documents have no word behind world.prefix (3); "
        "3 words at the ends of 1 documents are in no piece"
    ]
    assert notes(pieces(tmp_path, ["x " * 10, "y " * 9], 3, 2)) == []


def test_each_file_has_a_note_of_its_own(tmp_path):
    items = pieces(tmp_path, ["a b c d", "e"], 3, 2, retain=["f g h i", "j", "k"])
    assert notes(items) == [
        "world.forget: 1 of 2 documents have no word behind world.prefix (3)",
        "world.retain: 2 of 3 documents have no word behind world.prefix (3)",
    ]
