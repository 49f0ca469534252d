"""Every token of whole sentences, scored teacher-forced in one pass: what memorisation metrics and attacks read.

`rank` is a mid-rank: 1 + more probable tokens + half of the equally probable others. `mean` and `sd` are those of the
log-probabilities under the model's own distribution, as Min-K%++ wants them (Zhang et al. 2024, arXiv 2404.02936).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Arrays, Ids, Split
from unlearn_cli.observations.base import Observation, Scene, Unobservable

if TYPE_CHECKING:
    from unlearn_cli.worlds.language import Sentences
    from unlearn_cli.worlds.wording import Tokens


@component
class TokenScores(Observation):
    """The sentences of requested, reserved and must-not-change probes, each with the object that is the answer there.

    Tokens 1..L-1 of a sentence are scored; the first, which begins every text, is given.
    """

    VERSION: ClassVar[int] = 1

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """By row [n]: `rows` of the probe set, `relation`, `exposure`, `bytes_answer`, `bytes_full` (compressed).

        By token [n, L - 1]: `logp`, `rank`, `mean`, `sd`, `entropy` (nats); `hit`, whether it is the greedy token;
        `real`, no padding; `answer`, a token of the object. Numbers behind the end of a sentence are 0.
        """
        from unlearn_cli.observations.scoring import token_statistics

        rows = np.unique(np.concatenate([split.rows for split in scored_splits(scene)]))
        sentences = sentences_of(scene, rows)
        facts = scene.world.facts
        asked = scene.probes.fact[rows]
        place = np.arange(1, sentences.input_ids.shape[1])
        real = place < sentences.length[:, None]
        behind = place - sentences.answer_start[:, None]
        answer = (behind >= 0) & (place <= sentences.answer_end[:, None])
        statistics = token_statistics(model, sentences, scene.batch_size)
        vocabulary = scene.world.vocabulary
        return {
            "rows": rows,
            "relation": scene.world.kinds(asked),
            "exposure": (facts.exposure + facts.questions)[asked],
            "bytes_answer": compressed(vocabulary, sentences.answers, sentences.answer_places),
            "bytes_full": compressed(vocabulary, sentences.input_ids[:, 1:], real),
            "real": real,
            "answer": answer,
            **{name: np.where(real, values, 0).astype(values.dtype) for name, values in statistics.items()},
        }


def scored_splits(scene: Scene) -> list[Split]:
    """The splits of requested, reserved and must-not-change probes; Unobservable if all are empty."""
    every = scene.probes.splits.values()
    found = [split for split in every if split.name in ("forget", "holdout") or split.must_not_change]
    found = [split for split in found if len(split.rows)]
    if not found:
        raise Unobservable("there is no requested, reserved or must-not-change probe")
    return found


def sentences_of(scene: Scene, rows: Ids) -> Sentences:
    """The sentences of scored probes `rows` [n], with the objects that are the answers there."""
    answer = np.empty(len(scene.probes), dtype=np.int64)
    for split in scored_splits(scene):
        answer[split.rows] = split.answer
    return scene.world.sentences(scene.probes.fact[rows], scene.probes.template[rows], answer[rows])


def compressed(vocabulary: Tokens, tokens: Ids, real: Any) -> Ids:
    """Bytes of each row's text [n] after zlib at its default level; they depend on the library's build."""
    texts = vocabulary.spelled(row[kept] for row, kept in zip(tokens, real, strict=True))
    return np.array([len(zlib.compress(text.encode())) for text in texts])
