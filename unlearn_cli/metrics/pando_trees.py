"""Random decision trees that agree with a few labelled records, and what they say of others: Pando's `tree_vote`.

Zhong et al. 2026 (arXiv 2604.11061): 50,000 trees of each depth 1 to 4, thresholds from observed values; those that
contradict a labelled record are discarded, the others vote; with fewer than 5 left the majority class of the labels
decides. A tree has its depth of distinct fields, each tested once on every path, in any order; its labels are coins.

Ours: fields may have a prior other than the even one, which is how an interpretability tool takes part; and what the
trees are made of is drawn before the prior is known, so that two priors are compared on the same chances.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.evaluation import Floats, Ids

Bools = NDArray[np.bool_]

LEAST = 5  # trees below which they have no vote
CHUNK = 4  # labels checked at a time: most trees fall at the first ones
CELLS = 2_000_000  # trees times records held at a time


@dataclass(frozen=True, eq=False)
class Chances:
    """What N trees of one depth d are made of but for the prior of p fields."""

    gumbel: Floats  # [N, p] picks the fields
    order: Floats  # [N, 2^d - 1] which of the fields that its path has left a node tests, in [0, 1)
    value: Floats  # [N, 2^d - 1] which record its threshold is taken from, in [0, 1)
    label: Bools  # [N, 2^d]

    @classmethod
    def draw(cls, trees: int, depth: int, p: int, rng: np.random.Generator) -> Chances:
        """Draw them all."""
        nodes = 2**depth - 1
        return cls(
            gumbel=rng.gumbel(size=(trees, p)),
            order=rng.random((trees, nodes)),
            value=rng.random((trees, nodes)),
            label=rng.random((trees, nodes + 1)) < 0.5,
        )


@dataclass(frozen=True, eq=False)
class Forest:
    """N complete trees of one depth d; the children of node i are 2 i + 1 (no) and 2 i + 2 (yes)."""

    field: Ids  # [N, 2^d - 1]
    threshold: Ids  # [N, 2^d - 1]
    label: Bools  # [N, 2^d]
    ordered: Bools  # [p] whether a node asks for at least its threshold, or else for the very value

    def __len__(self) -> int:
        return len(self.field)

    @classmethod
    def of(cls, chances: Chances, prior: Floats, values: Ids, ordered: Bools) -> Forest:
        """Trees over the fields of records [k, p], whose `prior` [p] adds up to 1."""
        depth = (chances.order.shape[1] + 1).bit_length() - 1
        with np.errstate(divide="ignore"):
            drawn = np.argsort(-(np.log(prior) + chances.gumbel), axis=1, kind="stable")[:, :depth]
        left, levels = drawn[:, None], []  # [N, nodes of the level, fields that their path has left]
        for level in range(depth):
            noise = chances.order[:, 2**level - 1 : 2 ** (level + 1) - 1, None]
            pick = (noise * left.shape[2]).astype(np.int64)
            levels.append(np.take_along_axis(left, pick, axis=2)[..., 0])
            np.put_along_axis(left, pick, left[..., -1:], axis=2)
            left = left[..., :-1].repeat(2, axis=1)
        field = np.concatenate(levels, axis=1)
        return cls(field, values[(chances.value * len(values)).astype(np.int64), field], chances.label, ordered)

    def only(self, kept: Bools) -> Forest:
        """The trees that are kept."""
        return Forest(self.field[kept], self.threshold[kept], self.label[kept], self.ordered)

    def __call__(self, values: Ids) -> Bools:
        """What each tree says of records [m, p]: [N, m]."""
        node = np.zeros((len(self), len(values)), dtype=np.int64)
        record = np.arange(len(values))
        for _ in range(self.label.shape[1].bit_length() - 1):
            field = np.take_along_axis(self.field, node, axis=1)
            threshold, value = np.take_along_axis(self.threshold, node, axis=1), values[record, field]
            yes = np.where(self.ordered[field], value >= threshold, value == threshold)
            node = 2 * node + 1 + yes
        return np.take_along_axis(self.label, node - self.field.shape[1], axis=1)

    def consistent(self, values: Ids, labels: Bools) -> Forest:
        """The trees that are right on every labelled record."""
        kept = self
        for start in range(0, len(values), CHUNK):
            part = slice(start, start + CHUNK)
            kept = kept.only((kept(values[part]) == labels[part]).all(axis=1))
        return kept

    def uses(self) -> Bools:
        """Whether a field can change what each tree says [N, p]: a test with both sides alike counts for nothing."""
        found = np.zeros((len(self), len(self.ordered)), dtype=bool)
        for node in range(self.field.shape[1]):
            matters = np.flatnonzero(~self._idle(node))
            found[matters, self.field[matters, node]] = True
        return found

    def _idle(self, node: int) -> Bools:
        """Whether both sides of a node say the same [N]: one and the same label, or equal subtrees."""
        level = (node + 1).bit_length() - 1
        size = self.label.shape[1] >> level
        first = (node + 1 - 2**level) * size
        no, yes = self.label[:, first : first + size // 2], self.label[:, first + size // 2 : first + size]
        constant = (no == no[:, :1]).all(axis=1)
        below = [_subtree(child, size.bit_length() - 2) for child in (2 * node + 1, 2 * node + 2)]
        alike = [(part[:, below[0]] == part[:, below[1]]).all(axis=1) for part in (self.field, self.threshold)]
        return (no == yes).all(axis=1) & (constant | (alike[0] & alike[1]))


@dataclass(frozen=True, eq=False)
class Vote:
    """What the trees that are left say together."""

    yes: Floats  # [m] share of them; of the labels, where too few are left
    use: Floats  # [p] share of them that use each field; 0 where too few are left
    trees: int


def chances(iterations: int, deepest: int, p: int, rng: np.random.Generator) -> list[Chances]:
    """So many trees of each depth from 1 to `deepest`, or to p."""
    return [Chances.draw(iterations, depth, p, rng) for depth in range(1, min(deepest, p) + 1)]


def tree_vote(
    drawn: Sequence[Chances], values: Ids, labels: Bools, asked: Ids, ordered: Bools, prior: Floats | None = None
) -> Vote:
    """Let the trees that agree with labelled records [k, p] vote on others [m, p]; the prior [p] is even by default."""
    p = values.shape[1]
    even = np.full(p, 1 / p)
    kept = [
        Forest.of(one, even if prior is None else prior, values, ordered).consistent(values, labels) for one in drawn
    ]
    trees = sum(map(len, kept))
    if trees < LEAST:
        return Vote(np.full(len(asked), labels.mean()), np.zeros(p), trees)
    yes = sum(part(asked).sum(axis=0) for forest in kept for part in _parts(forest, len(asked)))
    use = sum(forest.uses().sum(axis=0) for forest in kept)
    return Vote(yes / trees, use / trees, trees)


def _parts(forest: Forest, records: int) -> Iterator[Forest]:
    """The forest in pieces that need little memory."""
    step = max(1, CELLS // max(records, 1))
    for start in range(0, len(forest), step):
        part = slice(start, start + step)
        yield Forest(forest.field[part], forest.threshold[part], forest.label[part], forest.ordered)


def _subtree(root: int, depth: int) -> Ids:
    """Nodes of the subtree of so many levels below a node, level by level."""
    levels = [np.arange((root + 1) * 2**level - 1, (root + 2) * 2**level - 1) for level in range(depth)]
    return np.concatenate([np.empty(0, dtype=np.int64), *levels])
