"""Joint tokenisation: where an answer begins and ends, by hand, for three kinds of tokenizers."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from unlearn_cli.errors import ConfigError, UnlearnError
from unlearn_cli.worlds.text.tokens import TextTokens, gap
from unlearn_cli.worlds.vocabulary import END, PADDING

SPECIALS = {"bos_token": "<s>", "eos_token": "</s>"}


def saved(folder, inner, **names):
    PreTrainedTokenizerFast(tokenizer_object=inner, **(SPECIALS | names)).save_pretrained(folder)
    return str(folder)


def byte_level(folder, begins=False):
    """Bytes alone, and the merges that make ` P` and `is P`-free words; ids follow the alphabet."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {text: i for i, text in enumerate(["<s>", "</s>", *letters, "Ġi", "Ġis", "ĠP", "Pa"])}
    inner = Tokenizer(models.BPE(vocab=words, merges=[("Ġ", "i"), ("Ġi", "s"), ("Ġ", "P"), ("P", "a")]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if begins:
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return saved(folder, inner), words


def metaspace(folder):
    """A sentencepiece-like tokenizer, in which one token reaches across a space."""
    pieces = ["<s>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyzPL", "▁is", "▁is▁P"]
    inner = Tokenizer(
        models.BPE(
            vocab={text: i for i, text in enumerate(pieces)} | {"is": 90, "▁P": 91, "▁i": 92},
            merges=[("▁", "i"), ("▁i", "s"), ("▁", "P"), ("▁is", "▁P")],
            unk_token="<unk>",
        )
    )
    inner.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    return saved(folder, inner, unk_token="<unk>")


def test_bytes_the_answer_begins_with_its_space(tmp_path):
    path, words = byte_level(tmp_path)
    tokens = TextTokens(path, (), "bare")
    span = tokens.spans(["x is"], ["Pa"], ["x"])[0]
    assert span.ids == (words["x"], words["Ġis"], words["ĠP"], words["a"], words["</s>"])
    assert (span.start, span.end, span.name_end) == (2, 4, 0)


def test_a_tokenizer_that_begins_with_bos_shifts_every_place_by_one(tmp_path):
    path, words = byte_level(tmp_path, begins=True)
    span = TextTokens(path, (), "bare").spans(["x is"], ["Pa"], ["x"])[0]
    assert span.ids[0] == words["<s>"]
    assert (span.start, span.end, span.name_end) == (3, 5, 1)


def test_characters_of_several_bytes_stay_whole(tmp_path):
    path, _ = byte_level(tmp_path)
    tokens = TextTokens(path, (), "bare")
    span = tokens.spans(["né"], ["Ål"], ["né"])[0]
    assert span.end - span.start == 4  # a space, two bytes of Å, l
    assert tokens.tokenizer().decode(span.ids[span.start : span.end]) == " Ål"
    assert span.name_end == 1  # the first token that covers the last character, of its two bytes


def test_a_token_across_the_border_counts_as_answer(tmp_path):
    tokens = TextTokens(metaspace(tmp_path), (), "bare")
    ids = tokens.tokenizer().convert_tokens_to_ids
    span = tokens.spans(["x is"], ["Pa"], [None])[0]
    assert ids("▁is▁P") in span.ids
    assert span.ids[span.start] == ids("▁is▁P")
    assert span.end - span.start == 2


def test_words_are_tokens_where_there_is_no_tokenizer():
    tokens = TextTokens(None, ["What is it?", "a red box", "no"], "plain")
    span = tokens.spans(["What is it?"], ["a red box"], ["it"])[0]
    read = tokens.tokenizer().convert_ids_to_tokens
    assert read(list(span.ids)) == [
        "Question", ":", "What", "is", "it", "?", "Answer", ":", "a", "red", "box", "<|endoftext|>",
    ]  # fmt: skip
    assert (span.start, span.end, span.name_end) == (8, 11, 4)


def test_a_chat_template_ends_where_the_assistant_speaks(tmp_path):
    path, _ = byte_level(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(path)
    loaded.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
    )
    loaded.save_pretrained(path)
    tokens = TextTokens(path, (), "auto")
    assert tokens.put("hi") == "[user]hi[a]"
    span = tokens.spans(["hi"], ["Pa"], ["hi"])[0]
    text = loaded.decode(span.ids)
    assert text == "[user]hi[a] Pa</s>"
    assert loaded.decode(span.ids[span.start : span.end]) == " Pa"
    assert loaded.decode(span.ids[: span.name_end + 1]) == "[user]hi"


@pytest.mark.parametrize("style", ["plain", "bare"])
def test_answers_alone_have_the_tokens_that_they_have_in_a_sentence(tmp_path, style):
    path, _ = byte_level(tmp_path)
    tokens = TextTokens(path, (), style)
    span = tokens.spans(["Where?"], ["Paris"], [None])[0]
    assert tokens.alone(["Paris"]) == [span.ids[span.start : span.end]]


@pytest.mark.parametrize(
    "head, answer, text",
    [("x:", "y", " y"), ("x: ", "y", "y"), ("x:\n", "y", "y"), ("x:", "\ny", "\ny"), ("", "y", "y")],
)
def test_one_space_stands_between_prompt_and_answer(head, answer, text):
    assert gap(head, answer) == text


def test_a_tokenizer_without_chat_template_has_no_chat(tmp_path):
    path, _ = byte_level(tmp_path)
    with pytest.raises(ConfigError, match=r"world\.style: 'chat' given"):
        TextTokens(path, (), "chat").put("x")


def test_text_has_no_tokens_by_role(tmp_path):
    path, _ = byte_level(tmp_path)
    with pytest.raises(UnlearnError, match="generated world"):
        TextTokens(path, (), "plain")["subject"]


def test_metrics_are_told_ids_of_which_only_ends_and_padding_are_no_words(tmp_path):
    path, words = byte_level(tmp_path)
    tokens = TextTokens(path, (), "bare")
    assert tokens.told(np.array([words["<s>"], words["</s>"], -1, 5])).tolist() == [2, END, PADDING, 7]


def test_where_nothing_is_asked_a_start_stands_before_the_answer(tmp_path):
    path, words = byte_level(tmp_path)
    assert TextTokens(path, (), "bare").prelude == (words["<s>"],)
    read = TextTokens(path, (), "plain")
    assert read.tokenizer().decode(read.prelude) == "Question: \nAnswer:"
