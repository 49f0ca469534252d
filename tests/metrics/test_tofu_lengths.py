"""TOFU where objects differ in their number of tokens: every probability is normalised by its own answer's length."""

from dataclasses import replace

import numpy as np
import pytest
from doubles import evaluation, world
from mixed import MixedTabular

from unlearn_cli.evaluation import Predictions, Split
from unlearn_cli.metrics.targets import FACTS
from unlearn_cli.metrics.tofu import log_truth_ratios, option_shares, tokens_of
from unlearn_cli.metrics.tofu_probability import probability_score
from unlearn_cli.worlds.facts import REFUSAL

PROBES, OLD = world()
N = len(OLD)
FACT = {
    "relation": np.zeros(N, int),
    "objects": np.full(N, 3),
    "tokens": np.array([4]),
    "heldout": np.zeros(N, bool),
    "lengths": np.array([[4, 1, 3, 2]]),
}
LOGPS = np.array([-4.0, -2.0, -6.0])  # a token of the right object has -1, of either wrong one -2


def observed():
    model = Predictions(np.tile(LOGPS, (N, 1)), np.zeros(N, int), np.full(N, -3.0))
    return model, replace(evaluation(PROBES, edited=model), observed={("edited", FACTS): (FACT,)})


@pytest.mark.parametrize("average", ["geometric", "arithmetic"])
def test_truth_ratio_by_hand(average):
    model, found = observed()
    split = Split("forget", np.array([0]), np.array([0]), "to_gold")
    assert log_truth_ratios(found, model, split, 2, average)[1] == pytest.approx([-1])


def test_probabilities_by_hand():
    model, found = observed()
    row, answer = np.array([0]), np.array([0])
    assert probability_score(found, "forget", 2)(model, row, answer) == pytest.approx([np.exp(-1)])
    shares = option_shares(found, 2)(model, row, answer)
    assert shares == pytest.approx([np.exp(-1) / (np.exp(-1) + 2 * np.exp(-2))])


def test_lengths_are_those_of_the_candidates_and_the_refusal():
    made = MixedTabular(subjects=8, relations=2, objects=5, holdout_subjects=1, object_tokens=3).build(0)
    facts = {"relation": np.array([0, 1]), "lengths": made.answer_lengths}
    assert facts["lengths"].tolist() == [[3, 2, 3, 2, 3, 3]] * 2
    assert tokens_of(facts, np.array([0, 1]), np.array([1, REFUSAL])).tolist() == [2, 3]
    assert tokens_of(facts, np.array([0, 1]), np.array([[1, 2], [4, 3]])).tolist() == [[2, 3], [3, 2]]
