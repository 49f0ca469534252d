"""What the TOFU metrics share: their four sets of facts, wrong answers, and truth ratios.

Maini et al. 2024 (TOFU, arXiv 2401.06121) evaluate forget and retain sets, real authors and world facts. A world has no
text from outside; in place of the last two stand facts at growing distance from the request:
`near` (other facts of the subjects or of the relation, unseen) and `far` (unrelated, unseen); `retain` is what the
method may have trained on. Wrong answers are objects of the same relation, drawn once for each fact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from unlearn_cli.evaluation import Arrays, Evaluation, Floats, Ids, Predictions, ProbeSet, Role, Split, TextPredictions
from unlearn_cli.metrics.probing import Score, splits_of
from unlearn_cli.metrics.targets import FACTS, Targets
from unlearn_cli.statistics import Part
from unlearn_cli.streams import generator

SETS: dict[str, tuple[str, ...]] = {
    "retain": ("retain/seen",),
    "near": ("same_subject/unseen", "same_relation/unseen"),
    "far": ("unrelated/unseen",),
}
NO_FACTS = "the relations of the probes were not observed"
Average = Literal["geometric", "arithmetic"]
Aggregate = Callable[[Floats], Floats]


def splits_in(evaluation: Evaluation, name: str) -> list[Split]:
    """The non-empty splits of a set, or of `forget`."""
    return [split for part in SETS.get(name, (name,)) for split in splits_of(evaluation.probes, part)]


def why_no_set(evaluation: Evaluation, name: str) -> str | None:
    """Why nothing can be said of a set; None if it can."""
    if not splits_in(evaluation, name):
        return f"there is no probe in {' or '.join(SETS.get(name, (name,)))}"
    return None if evaluation.seen(FACTS, "edited") else NO_FACTS


def facts_of(evaluation: Evaluation) -> Arrays:
    """The relations behind the probes."""
    return evaluation.seen(FACTS, "edited")[0]


def tokens_of(facts: Arrays, rows: Ids, objects: Ids) -> Ids | int:
    """How many tokens objects [n] or [n, k], the refusal included, have as answers to the probes `rows` [n]."""
    if "lengths" not in facts:
        return int(facts["tokens"][0])
    relation, place = facts["relation"][rows], np.maximum(objects, -1)  # the refusal's is the last
    found: Ids = facts["lengths"][relation if objects.ndim == 1 else relation[:, None], place]
    return found


def token_logps(predictions: Predictions, rows: Ids, answer: Ids, tokens: Ids | int) -> Floats:
    """Mean log-probability of a token of answers [n]: the logarithm of the length-normalised probability."""
    return predictions.answer_logps(rows, answer).astype(np.float64) / tokens


def wrong_of(facts: Arrays, probes: ProbeSet, rows: Ids, answer: Ids, count: int, seed: int) -> Ids:
    """Wrong answers [n, k] of each row: those that the user's data name, or drawn ones; -1 where there are too few."""
    if "wrong" in facts:
        named: Ids = facts["wrong"][rows, :count]
        return named
    return wrong_answers(probes, facts["objects"], rows, answer, count, seed)


def _right_logps(facts: Arrays, model: Predictions, rows: Ids, answer: Ids) -> Floats:
    """`token_logps` of the right answers [n], in other words where the user's data have some."""
    plain = token_logps(model, rows, answer, tokens_of(facts, rows, answer))
    if "reworded" not in facts or not isinstance(model, TextPredictions):
        return plain
    again = facts["reworded"][rows]
    logps = model.reworded_logps[rows].astype(np.float64) / tokens_of(facts, rows, again)
    return np.where(again >= 0, logps, plain)


def reworded(facts: Arrays, split: Split) -> bool:
    """Whether the user's data tell a right answer of this split in other words."""
    return "reworded" in facts and bool((facts["reworded"][split.rows] >= 0).any())


def wrong_answers(probes: ProbeSet, objects: Ids, rows: Ids, answer: Ids, count: int, seed: int) -> Ids:
    """Objects [n, count] other than the answers [n], the same for every probe of a fact; -1 where there are too few."""
    found = np.full((len(rows), count), -1)
    for i, (row, right) in enumerate(zip(rows.tolist(), answer.tolist(), strict=True)):
        wrong = _drawn(seed, int(probes.fact[row]), right, int(objects[row]), count)
        found[i, : len(wrong)] = wrong
    return found


@lru_cache(maxsize=1 << 16)
def _drawn(seed: int, fact: int, right: int, objects: int, count: int) -> Ids:
    """Kept, since every model and several metrics ask for the same."""
    order = generator(seed, "wrong_answers", fact).permutation(objects)
    return order[order != right][:count]


def option_shares(evaluation: Evaluation, count: int) -> Score:
    """P(answer) / sum of P over the answer and its wrong ones, P normalised by length."""
    facts, probes = facts_of(evaluation), evaluation.probes

    def score(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        wrong = wrong_of(facts, probes, rows, answer, count, evaluation.bootstrap.seed)
        right = token_logps(predictions, rows, answer, tokens_of(facts, rows, answer))[:, None]
        others = predictions.candidate_logps[rows[:, None], wrong].astype(np.float64) / tokens_of(facts, rows, wrong)
        with np.errstate(over="ignore"):
            odds = np.where(wrong >= 0, np.exp(others - right), 0.0).sum(axis=1)
        return 1 / (1 + odds)

    return score


def paraphrases(evaluation: Evaluation) -> Split:
    """The requested facts on their old objects in held-out phrasings, or, where there are none, as they were asked.

    As they were asked, too, where the user's data tell the answer in other words: then that is the paraphrase.
    """
    probes, forget = evaluation.probes, evaluation.probes.splits["forget"]
    if reworded(facts_of(evaluation), forget):
        return forget
    split = probes.splits["edited_para"]
    rows = split.rows[facts_of(evaluation)["heldout"][split.rows]] if len(split.rows) else split.rows
    if not len(rows):
        return forget
    old = Targets.of(probes).old
    rows = rows[np.isin(probes.fact[rows], list(old))]
    return Split("forget", rows, np.array([old[fact] for fact in probes.fact[rows].tolist()]), "to_gold")


def log_truth_ratios(
    evaluation: Evaluation, model: Predictions, split: Split, count: int, average: Average
) -> tuple[Ids, Floats]:
    """A row of each fact, and log(average P of the wrong answers / P of the right one), P normalised by length.

    In log space, without an epsilon; losses are averaged over the phrasings of a fact first.
    """
    facts, probes, rows = facts_of(evaluation), evaluation.probes, split.rows
    wrong = wrong_of(facts, probes, rows, split.answer, count, evaluation.bootstrap.seed)
    right = _right_logps(facts, model, rows, split.answer)[:, None]
    others = model.candidate_logps[rows[:, None], wrong].astype(np.float64) / tokens_of(facts, rows, wrong)
    _, first, place = np.unique(probes.fact[rows], return_index=True, return_inverse=True)
    columns = np.concatenate([right, others], axis=1)
    means = np.stack([np.bincount(place, column) for column in columns.T], axis=1) / np.bincount(place)[:, None]
    there = wrong[first] >= 0
    if average == "geometric":
        against = np.where(there, means[:, 1:], 0.0).sum(axis=1) / there.sum(axis=1)
    else:
        among = np.where(there, means[:, 1:], -np.inf)
        top = among.max(axis=1)
        against = top + np.log(np.exp(among - top[:, None]).sum(axis=1) / there.sum(axis=1))
    return rows[first], against - means[:, 0]


def truth_ratio_parts(
    evaluation: Evaluation, role: Role, splits: Sequence[Split], count: int, average: Average, aggregate: Aggregate
) -> list[Part]:
    """`aggregate` of each fact's log truth ratio, a mean over the role's models: one part for each split."""
    models, parts = evaluation.predictions.get(role, ()), []
    for split in splits if models else ():
        found = [log_truth_ratios(evaluation, model, split, count, average) for model in models]
        values = np.mean([aggregate(logs) for _, logs in found], axis=0)
        parts.append(Part(values, evaluation.probes.cluster[found[0][0]]))
    return parts


def closeness_to_one(logs: Floats) -> Floats:
    """min(TR, 1 / TR)."""
    return np.exp(-np.abs(logs))


def knowledge(logs: Floats) -> Floats:
    """P(right) / (P(right) + P of the wrong ones) = 1 / (1 + TR)."""
    return np.exp(-np.logaddexp(0.0, logs))


def truthfulness(logs: Floats) -> Floats:
    """max(0, 1 - TR)."""
    return np.maximum(0.0, -np.expm1(np.minimum(logs, 0.0)))
