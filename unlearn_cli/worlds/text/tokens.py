"""The tokenizer of a text world: a pretrained model's own, or one made of the words of the texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.vocabulary import END, PADDING, SPECIAL, Ids
from unlearn_cli.worlds.wording import NoRoles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from unlearn_cli.worlds.vocabulary import Role

Style = Literal["auto", "chat", "plain", "bare"]
STYLES = {"plain": "Question: {}\nAnswer:", "bare": "{}"}  # what stands before an answer, which a space begins


@dataclass(frozen=True)
class Span:
    """A sentence in token ids, and where the answer stands in it."""

    ids: tuple[int, ...]
    start: int  # position of the answer's first token
    end: int  # behind its last
    name_end: int | None  # position of the last token of the subject's name, if the prompt holds it


@dataclass(frozen=True, eq=False)
class TextTokens:
    """Reads prompts and answers jointly."""

    path: str | None  # folder or hub name of the tokenizer; None: one token for each word of `texts`
    texts: Sequence[str]  # every text of the world, for a tokenizer of words
    style: Style  # how a prompt is put; auto: the chat template if the tokenizer has one, else plain

    @property
    def size(self) -> int:
        """Number of token ids V."""
        return len(self._tokenizer)

    @property
    def special(self) -> tuple[str, ...]:
        """Tokens that are no text, none of a tokenizer of words; written in a text they are read as what they are."""
        if self.path is None:
            return ()
        return tuple(token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special)

    @cached_property
    def end(self) -> int:
        """The token that ends a sentence."""
        found = self._tokenizer.eos_token_id
        if found is None:
            advice = "give one as eos_token in its tokenizer_config.json, or name another with world.tokenizer=<folder>"
            raise ConfigError([f"world.tokenizer: {self.path} has no end-of-sequence token; {advice}"])
        return int(found)

    @cached_property
    def start(self) -> int:
        """The token that begins a sentence; the end token for tokenizers that begin with nothing."""
        found = self._tokenizer.bos_token_id
        return self.end if found is None else int(found)

    @property
    def closing(self) -> tuple[int, ...]:
        """The tokens behind an answer that end its sentence."""
        return (self.end,)

    @property
    def prelude(self) -> tuple[int, ...]:
        """The tokens before an answer where nothing is asked: of an empty prompt, the start token at least."""
        begun = [self.start] if self._opens else []
        return tuple([*begun, *self._tokenizer(self.put(""), add_special_tokens=False)["input_ids"]] or [self.start])

    def spelled(self, rows: Iterable[Ids]) -> list[str]:
        """What rows of token ids say."""
        return [str(self._tokenizer.decode(row, skip_special_tokens=True)) for row in rows]

    def told(self, ids: Ids) -> Ids:
        """Token ids for metrics: END and PADDING are no words of any tokenizer, whose own follow behind them."""
        counted = np.where(ids == self.end, END, ids + PADDING + 1)
        return np.where(ids < 0, PADDING, counted)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that is saved with models."""
        return self._tokenizer

    def __getitem__(self, role: str) -> Role:
        raise NoRoles(f"real text has no tokens of its own for a {role}: this needs a generated world")

    def spans(self, prompts: Sequence[str], answers: Sequence[str], names: Sequence[str | None]) -> list[Span]:
        """Tokenise each prompt with its answer as one string, and split it by offsets."""
        heads = [self.put(prompt) for prompt in prompts]
        texts = [head + gap(head, answer) for head, answer in zip(heads, answers, strict=True)]
        coded = self._tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        each = zip(coded["input_ids"], coded["offset_mapping"], heads, prompts, names, strict=True)
        return [self._span(*one) for one in each]

    def alone(self, answers: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of answers behind a prompt, any prompt."""
        spans = self.spans(["x"] * len(answers), answers, [None] * len(answers))
        return [span.ids[span.start : span.end] for span in spans]

    def put(self, prompt: str) -> str:
        """The text before the answer, in the tokenizer's chat template or in the style's own words."""
        if self._style != "chat":
            return STYLES[self._style].format(prompt)
        return self._templated(prompt)

    def _templated(self, prompt: str) -> str:
        turns = [{"role": "user", "content": prompt}]
        try:
            return str(self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
        except Exception as error:  # whatever its author wrote
            said = f"cannot be used ({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})"
            raise self._no_chat(said) from None

    def _no_chat(self, why: str) -> ConfigError:
        return ConfigError([f"world.style: the chat template of {self.path} {why}; world.style=plain asks without it"])

    def _span(self, ids: list[int], offsets: list[tuple[int, int]], head: str, prompt: str, name: str | None) -> Span:
        begun = [self.start] if self._opens else []
        start = next((i for i, (_, stop) in enumerate(offsets) if stop > len(head)), len(ids))
        return Span(
            ids=(*begun, *ids, self.end),
            start=start + len(begun),
            end=len(ids) + len(begun),
            name_end=_last_token(offsets, head, prompt, name, len(begun)),
        )

    @cached_property
    def _style(self) -> str:
        if self.style != "auto":
            if self.style == "chat" and not self._tokenizer.chat_template:
                raise ConfigError([f"world.style: 'chat' given; the tokenizer of {self.path} has no chat template"])
            return self._checked(self.style)
        return self._checked("chat" if self._tokenizer.chat_template else "plain")

    def _checked(self, style: str) -> str:
        """A template that leaves the prompt out would ask the same everywhere."""
        if style == "chat" and self._templated("one") == self._templated("two"):
            raise self._no_chat("leaves the prompt out")
        return style

    @cached_property
    def _opens(self) -> bool:
        """Whether texts begin with the start token: as the tokenizer has it, and a chat template for itself."""
        begins = list(self._tokenizer("a")["input_ids"])[:1] == [self._tokenizer.bos_token_id]
        return begins and self._style != "chat"

    @cached_property
    def _tokenizer(self) -> Any:
        if self.path is None:
            return _of_words([*self.texts, *STYLES.values()])
        from unlearn_cli.models.pretrained import tokenizer

        return tokenizer(self.path)


def gap(head: str, answer: str) -> str:
    """The answer as it follows the head: behind a space unless one side has its own."""
    return answer if head[-1:].isspace() or not head or answer[:1].isspace() else f" {answer}"


def _last_token(offsets: Sequence[tuple[int, int]], head: str, prompt: str, name: str | None, begun: int) -> int | None:
    """Position of the token in which the name's last occurrence in the prompt ends."""
    place = head.rfind(prompt) if prompt else -1
    found = prompt.rfind(name) if name else -1
    if place < 0 or found < 0 or name is None:
        return None
    last = place + found + len(name) - 1
    return next((i + begun for i, (first, stop) in enumerate(offsets) if first <= last < stop), None)


def _of_words(texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """One token for each word and mark of the texts; a fast tokenizer that `transformers` reads back."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Whitespace()
    words = dict.fromkeys(word for text in texts for word, _ in split.pre_tokenize_str(text.replace("{}", "")))
    ids = {word: place for place, word in enumerate(dict.fromkeys([*SPECIAL[:3], *words]))}
    inner: Any = Tokenizer(models.WordLevel(ids, unk_token=SPECIAL[2]))
    inner.pre_tokenizer = split
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token=SPECIAL[2],
        pad_token=SPECIAL[1],
        eos_token=SPECIAL[0],
        bos_token=SPECIAL[0],
    )
