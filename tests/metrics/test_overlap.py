"""Our overlap of token sequences against the `rouge-score` package."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from unlearn_cli.metrics.overlap import rouge_1, rouge_l
from unlearn_cli.worlds.vocabulary import PADDING

FIRST = 100  # far from the special tokens


def pairs(seed, n=200):
    rng = np.random.default_rng(seed)
    said, reference = (np.full((n, 9), PADDING) for _ in range(2))
    for row in range(n):
        for texts in (said, reference):
            length = rng.integers(1, 10)
            texts[row, :length] = FIRST + rng.integers(0, 5, length)
    return said, reference


def text(tokens):
    return " ".join(f"w{token}" for token in tokens if token != PADDING)


@pytest.mark.parametrize(("name", "ours"), [("rouge1", rouge_1), ("rougeL", rouge_l)])
@pytest.mark.parametrize(("kind", "theirs"), [("recall", "recall"), ("f1", "fmeasure")])
def test_it_agrees_with_rouge_score(name, ours, kind, theirs):
    said, reference = pairs(0)
    scorer = RougeScorer([name], use_stemmer=False)
    expected = [getattr(scorer.score(text(b), text(a))[name], theirs) for a, b in zip(said, reference, strict=True)]
    np.testing.assert_allclose(ours(said, reference, kind), expected, atol=1e-12)
