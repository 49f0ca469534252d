"""Rows that must stay and nearly repeat requested ones."""

from text_samples import checkpoint, composed, facts

from unlearn_cli.pipeline import run
from unlearn_cli.worlds.text.items import Item
from unlearn_cli.worlds.text.overlap import near, notes

ASKED = Item("forget", "a b c d e f g h i j", "k", place="forget, line 1")  # nine grams


def kept(text, part="retain"):
    *prompt, answer = text.split()
    return Item(part, " ".join(prompt), answer, place="retain, line 7")


def test_the_index_by_hand():
    """Another last word leaves 8 of 10 grams in common, one in the middle 6 of 12."""
    last, middle = kept("A b c d e f g h i j X"), kept("a b c d e X g h i j k")
    assert near([ASKED, last, middle]) == [(ASKED, last)]
    assert near([ASKED, kept("a b c d e f g h i j k", "holdout"), kept("a b", "retain")]) == []


def test_each_row_is_told_once_beside_the_one_it_is_most_like():
    other = Item("forget", "a b c d e f g h i j", "z")
    row = kept("a b c d e f g h i j z")
    assert near([ASKED, other, row]) == [(other, row)]
    (note,) = notes([ASKED, kept("a b c d e f g h i j X"), kept("a b c d e f g h i j Y")])
    assert note.startswith("2 rows") and note.endswith("as retain, line 7 and forget, line 1")
    assert notes([ASKED, kept("x y z v w")]) == []


def test_the_note_reaches_the_result(tmp_path):
    files = facts(tmp_path)
    row = '{"question": "What is the capital of France?", "answer": "Paris Paris"}'
    with files["retain"].open("a") as file:
        file.write(row)
    words = [f"world.{part}={path}" for part, path in files.items()]
    words += ["world=qa", f"model.path={checkpoint(tmp_path / 'model')}", "method=noop"]
    (note,) = run(composed(tmp_path, *words)).notes
    assert f"as {files['retain']}, line 8 and {files['forget']}, line 1" in note
