"""What a model says on its own: greedy tokens behind the beginning of a sentence, beside how the sentence goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Ids
from unlearn_cli.metrics.probing import splits_of, why_empty
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.streams import generator
from unlearn_cli.worlds.vocabulary import END, NOTHING, PADDING, Vocabulary

if TYPE_CHECKING:
    from unlearn_cli.worlds.wording import Tokens


@component
class Generated(Observation):
    """Greedy continuations of the probes of a split or aggregate, the model's own tokens fed back to it."""

    VERSION: ClassVar[int] = 1

    rows: str = "forget"  # split or aggregate (`retain`, `retain/unseen`)
    prefix: Literal["prompt"] | Count = "prompt"  # all before the object; or so many tokens
    max_new_tokens: Count = 8  # m
    most: Count | None = None  # probes asked, drawn when there are more; null: all

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """Return `rows` [n] of the probe set, `tokens` [n, m], `reference` [n, m], and `prefix` [n] tokens given.

        Behind the end of a text, the model's or the reference's, and where a context has no room, is padding; token
        ids are those of `Tokens.told`. The reference is the sentence with the split's answer. Sentences that are no
        longer than the prefix are left out, which may leave none. Of real text `said` and `wanted` [n, w] are tokens
        and reference in numbered words.
        """
        from unlearn_cli.observations.speaking import continued

        rows, sentences = self._asked(scene)
        given = np.full(len(rows), self.prefix) if isinstance(self.prefix, int) else sentences.answer_start
        longer = sentences.length > given
        rows, given = rows[longer], given[longer]
        ids, length, told = sentences.input_ids[longer], sentences.length[longer], scene.world.vocabulary.told
        tokens = continued(model, ids, given, self.max_new_tokens, scene.batch_size)
        return {
            "rows": rows,
            "tokens": _ended(told(tokens)),
            "reference": _ended(told(_behind(ids, length, given, self.max_new_tokens))),
            "prefix": given,
            **_in_words(scene.world.vocabulary, tokens, _behind(ids, length, given, self.max_new_tokens)),
        }

    def _asked(self, scene: Scene) -> tuple[Ids, Any]:
        """The probes' rows, and their sentences with the split's answers."""
        splits = splits_of(scene.probes, self.rows)
        if not splits:
            raise Unobservable(why_empty(scene.probes, self.rows))
        rows = np.concatenate([split.rows for split in splits])
        answer = np.concatenate([split.answer for split in splits])
        if self.most is not None and self.most < len(rows):
            rng = generator(scene.seed, "generated", self.rows)
            drawn = np.sort(rng.choice(len(rows), self.most, replace=False))
            rows, answer = rows[drawn], answer[drawn]
        return rows, scene.world.sentences(scene.probes.fact[rows], scene.probes.template[rows], answer)


def _behind(ids: Ids, length: Ids, given: Ids, most: int) -> Ids:
    """The `most` tokens [n, m] behind the first `given` [n] of rows [n, L] of `length` [n] tokens, NOTHING behind."""
    ended = np.where(np.arange(ids.shape[1]) < length[:, None], ids, NOTHING)
    padded = np.pad(ended, ((0, 0), (0, most)), constant_values=NOTHING)
    return np.take_along_axis(padded, given[:, None] + np.arange(most), axis=1)


def _in_words(vocabulary: Tokens, tokens: Ids, reference: Ids) -> Arrays:
    """Nothing of a generated world, whose tokens are words."""
    if isinstance(vocabulary, Vocabulary):
        return {}
    number: dict[str, int] = {}
    return {
        name: _numbered(vocabulary.spelled(_until_end(vocabulary, ids)), number)
        for name, ids in (("said", tokens), ("wanted", reference))
    }


def _until_end(vocabulary: Tokens, rows: Ids) -> Iterator[Ids]:
    """Each row up to the first token that ends a text, or that is none."""
    for row in rows:
        ends = np.flatnonzero((row == vocabulary.end) | (row == NOTHING))
        yield row[: ends[0]] if len(ends) else row


def _numbered(texts: list[str], number: dict[str, int]) -> Ids:
    """Words by number, padded; new ones are added to `number`."""
    said = [re.findall(r"\w+", text.lower()) for text in texts]
    out = np.full((len(said), max([1, *map(len, said)])), PADDING)
    for row, words in zip(out, said, strict=True):
        row[: len(words)] = [number.setdefault(word, PADDING + 1 + len(number)) for word in words]
    return out


def _ended(tokens: Ids) -> Ids:
    """Rows [n, m] with padding behind the first token that ends a text."""
    over = (tokens == END).cumsum(axis=1) - (tokens == END) > 0
    return np.where(over, PADDING, tokens)
