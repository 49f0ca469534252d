"""What a model says on its own: greedy tokens behind the beginning of a sentence, beside how the sentence goes on."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Ids
from unlearn_cli.metrics.probing import splits_of, why_empty
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.streams import generator
from unlearn_cli.worlds.vocabulary import END, PADDING


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

        Behind the end of a text, the model's or the reference's, and where a context has no room, is padding. The
        reference is the sentence with the split's answer. Sentences that are no longer than the prefix are left out,
        which may leave none.
        """
        from unlearn_cli.observations.speaking import continued

        rows, sentences = self._asked(scene)
        given = np.full(len(rows), self.prefix) if isinstance(self.prefix, int) else sentences.answer_start
        longer = sentences.length > given
        rows, ids, given = rows[longer], sentences.input_ids[longer], given[longer]
        tokens = continued(model, ids, given, self.max_new_tokens, scene.batch_size)
        return {
            "rows": rows,
            "tokens": _ended(tokens),
            "reference": _ended(_behind(ids, given, self.max_new_tokens)),
            "prefix": given,
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


def _behind(ids: Ids, given: Ids, most: int) -> Ids:
    """The `most` tokens [n, m] behind the first `given` [n] of rows [n, L], padded."""
    padded = np.pad(ids, ((0, 0), (0, most)), constant_values=PADDING)
    return np.take_along_axis(padded, given[:, None] + np.arange(most), axis=1)


def _ended(tokens: Ids) -> Ids:
    """Rows [n, m] with padding behind the first token that ends a text."""
    over = (tokens == END).cumsum(axis=1) - (tokens == END) > 0
    return np.where(over, PADDING, tokens)
