"""Our overlap of token sequences against the `rouge-score` package."""

import json
import subprocess
import sys

import numpy as np
import pytest

from unlearn_cli.metrics.overlap import rouge_1, rouge_l
from unlearn_cli.worlds.vocabulary import PADDING

FIRST = 100  # far from the special tokens

# In a process of its own: the package's logging (absl) closes whatever standard error it found when it was imported.
THEIRS = """
import json, sys
from rouge_score.rouge_scorer import RougeScorer
scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
pairs = json.load(sys.stdin)
json.dump([{name: [s.recall, s.fmeasure] for name, s in scorer.score(b, a).items()} for a, b in pairs], sys.stdout)
"""


def texts(n=200):
    rng = np.random.default_rng(0)
    said, reference = (np.full((n, 9), PADDING) for _ in range(2))
    for row in range(n):
        for rows in (said, reference):
            length = rng.integers(1, 10)
            rows[row, :length] = FIRST + rng.integers(0, 5, length)
    return said, reference


def spelled(tokens):
    return " ".join(f"w{token}" for token in tokens if token != PADDING)


@pytest.fixture(scope="module")
def theirs():
    pairs = [(spelled(a), spelled(b)) for a, b in zip(*texts(), strict=True)]
    told = subprocess.run([sys.executable, "-c", THEIRS], input=json.dumps(pairs), capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


@pytest.mark.parametrize(("name", "ours"), [("rouge1", rouge_1), ("rougeL", rouge_l)])
@pytest.mark.parametrize(("place", "kind"), enumerate(["recall", "f1"]))
def test_it_agrees_with_rouge_score(theirs, name, ours, place, kind):
    said, reference = texts()
    expected = [scores[name][place] for scores in theirs]
    np.testing.assert_allclose(ours(said, reference, kind), expected, atol=1e-12)
