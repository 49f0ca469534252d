"""Scores of sentences by models whose every token's probability is chosen by the test."""

from dataclasses import replace

import numpy as np
from doubles import evaluation, from_probabilities

from unlearn_cli.evaluation import ProbeSet, Split
from unlearn_cli.observations.token_scores import TokenScores

SIDE = 10  # requested, kept and reserved subjects each, with one probe each


def sides(n=SIDE, template=None):
    """n requested facts, n that must not change, n reserved ones: one subject and one probe each."""
    rows = np.arange(3 * n)
    answer = np.zeros(n, dtype=np.int64)
    places = {"forget": rows[:n], "unrelated/unseen": rows[n : 2 * n], "holdout": rows[2 * n :]}
    to = {"forget": "to_gold", "unrelated/unseen": "higher", "holdout": "to_gold"}
    splits = {name: Split(name, found, answer, to[name]) for name, found in places.items()}
    template = np.zeros(3 * n, dtype=np.int64) if template is None else template
    return ProbeSet(rows, template, rows, 5, splits)


def scored(probes, logp, hit=None, answer=None, **more):
    """Arrays of `TokenScores` of all probes, from log-probabilities [N, T] of tokens that are all answer by default."""
    logp = np.asarray(logp, dtype=np.float32)
    ones = np.ones(logp.shape, dtype=bool)
    plain = {
        "rows": np.arange(len(probes)),
        "relation": np.zeros(len(probes), dtype=np.int64),
        "exposure": np.ones(len(probes), dtype=np.int64),
        "bytes_answer": np.full(len(probes), 10),
        "bytes_full": np.full(len(probes), 30),
        "real": ones,
        "answer": ones if answer is None else answer,
        "logp": logp,
        "rank": np.ones(logp.shape),
        "mean": np.full(logp.shape, -1.0),
        "sd": np.ones(logp.shape),
        "entropy": np.ones(logp.shape),
        "hit": ones if hit is None else hit,
    }
    return plain | more


def told(probes, observation=None, **models):
    """An evaluation in which each role's models are given by the arrays that were observed of them."""
    n = len(probes)
    blank = from_probabilities(np.full((n, 5), 0.2))
    there = {role: blank for role in ("base", "edited") if role in models}
    made = evaluation(probes, **there, gold=[blank] * len(models.get("gold", ())))
    seen = {role: tuple(found) if role == "gold" else (found,) for role, found in models.items()}
    return replace(made, observed={(role, observation or TokenScores()): found for role, found in seen.items()})
