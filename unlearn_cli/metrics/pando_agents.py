"""Agents that see a few labelled decisions of a model and predict the others: Pando's P02, offline.

Zhong et al. 2026 (arXiv 2604.11061): k of n records are labelled with the model's decisions, the agent predicts the
rest; the tools' agents differ in one thing, the output of their tool. Published agents are language models. Ours is
tree search: random trees that agree with the labels vote (`pando_trees.py`), and a tool re-weights the fields that
trees are made of, softmax(score / T) of its scores on the labelled records, standardised over the fields. Without a
tool the prior is even, which is `tree_vote`. All agents of a model see the same records, and their trees are made of
the same chances: their difference is the tool's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.evaluation import Arrays, Floats, Ids
from unlearn_cli.metrics.pando_trees import Chances, Vote, chances, tree_vote
from unlearn_cli.observations.field_scores import TOOLS
from unlearn_cli.streams import generator

Bools = NDArray[np.bool_]

SAMPLE_ONLY = "sample_only"
SEARCHERS = (SAMPLE_ONLY, *TOOLS)
BASELINES = ("nearest_neighbour", "logistic_regression", "majority")


@dataclass(frozen=True)
class Search:
    """How the trees are searched, and how often records are drawn to be labelled."""

    iterations: int
    deepest: int
    temperature: float
    draws: int
    seed: int


@dataclass(frozen=True, eq=False)
class Task:
    """One model's decisions on n records."""

    subject: Ids  # [n]
    values: Ids  # [n, p]
    decision: Bools  # [n]
    relevant: Bools  # [p]
    ordered: Bools  # [p]
    sizes: Ids  # [p] values of each field
    scores: Mapping[str, Floats]  # by tool, [n, p]

    @classmethod
    def of(cls, arrays: Arrays) -> Task:
        """What the observation left."""
        names = ("subject", "values", "decision", "relevant", "ordered", "sizes")
        return cls(**{name: arrays[name] for name in names}, scores={tool: arrays[tool] for tool in TOOLS})


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an agent made of a task with k labels."""

    right: Floats  # [draws, n] 1 where it predicts the model's decision, else 0; NaN where that was told
    use: Floats  # [draws, p] share of its trees that use each field; 0 for an agent without trees


def outcomes(
    task: Task, search: Search, k: int, agents: Sequence[str] = (*SEARCHERS, *BASELINES)
) -> dict[str, Outcome]:
    """Of each agent; k is below n."""
    n, p = task.values.shape
    right = {agent: np.full((search.draws, n), np.nan) for agent in agents}
    use = {agent: np.zeros((search.draws, p)) for agent in agents}
    for draw, told, asked in _drawn(n, k, search):
        for agent in agents:
            vote = _vote(task, agent, told, asked, search, draw)
            yes = _decided(vote.yes, task.decision[told])
            right[agent][draw, asked] = yes == task.decision[asked]
            use[agent][draw] = vote.use
    return {agent: Outcome(right[agent], use[agent]) for agent in agents}


def prior(scores: Floats, temperature: float) -> Floats:
    """Probability of each field [p] from a tool's scores on the labelled records [k, p]."""
    mean = scores.mean(axis=0)
    spread = mean.std()
    standard = (mean - mean.mean()) / spread if spread > 0 else np.zeros_like(mean)
    weight = np.exp((standard - standard.max()) / temperature)
    return weight / weight.sum()


def nearest_neighbour(values: Ids, labels: Bools, asked: Ids, ordered: Bools, sizes: Ids) -> Floats:
    """Mean label of the nearest labelled records [m]: fields weigh alike, an ordered one by its share of the range."""
    apart = np.abs(asked[:, None] - values)
    distance = np.where(ordered, apart / np.maximum(sizes - 1, 1), apart > 0).sum(axis=2)
    nearest = distance <= distance.min(axis=1, keepdims=True) + 1e-12
    share: Floats = (nearest & labels).sum(axis=1) / nearest.sum(axis=1)
    return share


def logistic_regression(values: Ids, labels: Bools, asked: Ids) -> Floats:
    """Predictions [m] of scikit-learn's default one on standardised values; of the majority if all labels are equal."""
    from sklearn.linear_model import LogisticRegression

    if labels.all() or not labels.any():
        return np.full(len(asked), labels.mean())
    mean, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    fitted = LogisticRegression(max_iter=1000).fit((values - mean) / spread, labels)
    found: Floats = fitted.predict((asked - mean) / spread).astype(np.float64)
    return found


def _decided(yes: Floats, labels: Bools) -> Bools:
    """The majority's word; a tie goes to the majority of the labels, and theirs to yes."""
    return (yes > 0.5) | ((yes == 0.5) & (labels.mean() >= 0.5))


def _drawn(n: int, k: int, search: Search) -> Iterator[tuple[int, Ids, Ids]]:
    """Number of each draw, and the records that are told and asked; with fewer labels, the first of the same."""
    for draw in range(search.draws):
        order = generator(search.seed, "pando", "queries", draw).permutation(n)
        yield draw, order[:k], order[k:]


def _vote(task: Task, agent: str, told: Ids, asked: Ids, search: Search, draw: int) -> Vote:
    given = task.values[told], task.decision[told], task.values[asked]
    if agent in SEARCHERS:
        p = task.values.shape[1]
        weight = None if agent == SAMPLE_ONLY else prior(task.scores[agent][told], search.temperature)
        return tree_vote(_chances(search, draw, p), *given, task.ordered, weight)
    if agent == "nearest_neighbour":
        yes = nearest_neighbour(*given, task.ordered, task.sizes)
    elif agent == "logistic_regression":
        yes = logistic_regression(*given)
    else:
        yes = np.full(len(asked), given[1].mean())
    return Vote(yes, np.zeros(task.values.shape[1]), 0)


@lru_cache(maxsize=2)
def _chances(search: Search, draw: int, p: int) -> list[Chances]:
    return chances(search.iterations, search.deepest, p, generator(search.seed, "pando", "trees", draw))
