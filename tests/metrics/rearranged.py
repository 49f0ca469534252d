"""The same evaluation told otherwise: probes in another order, every probe twice, other models in the roles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unlearn_cli.evaluation import Absent, Predictions, ProbeSet
from unlearn_cli.observations.probe_facts import ProbeFacts

ROWS = "rows"
COLUMNS = ("fact", "template", "subject", "request")


def permuted(evaluation, seed):
    """The evaluation with its probes, and the rows of its splits, in another order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(evaluation.probes))
    return _taken(evaluation, [order], rng)


def doubled(evaluation):
    """The evaluation with every probe asked twice."""
    rows = np.arange(len(evaluation.probes))
    return _taken(evaluation, [rows, rows], None)


def with_models(evaluation, **source):
    """The evaluation in which `role=other` plays that role with the first model of another one."""
    found = {name: dict(getattr(evaluation, name)) for name in ("predictions", "checkpoints", "costs")}
    observed = dict(evaluation.observed)
    for role, other in source.items():
        for models in found.values():
            if other in models:
                models[role] = models[other][:1]
        for (who, item), arrays in evaluation.observed.items():
            if who == other and (role, item) in evaluation.observed:
                observed[role, item] = arrays[:1]
    return replace(evaluation, **found, observed=observed)


def _taken(evaluation, orders, rng):
    """Probes `orders[0]`, then `orders[1]`, ...; each copy of a probe stands where its own order puts it."""
    n, order = len(evaluation.probes), np.concatenate(orders)
    places = [i * n + np.argsort(rows) for i, rows in enumerate(orders)]  # new places of the old rows, in each copy

    def of_split(split):
        count = len(split.rows)
        shuffle = np.arange(count) if rng is None else rng.permutation(count)
        picked = np.tile(shuffle, len(orders))
        rows = np.concatenate([place[split.rows[shuffle]] for place in places])
        posterior = None if split.posterior is None else split.posterior[picked]
        return replace(split, rows=rows, answer=split.answer[picked], posterior=posterior)

    def of_probes(probes):
        columns = {name: getattr(probes, name) for name in COLUMNS}
        columns = {name: None if values is None else values[order] for name, values in columns.items()}
        splits = {name: of_split(split) for name, split in probes.splits.items()}
        return ProbeSet(**columns, objects=probes.objects, splits=splits)

    def of_model(model):
        return Predictions(*(getattr(model, name)[order] for name in ("candidate_logps", "greedy", "refusal_logps")))

    def of_arrays(item, arrays):
        if isinstance(arrays, Absent):
            return arrays
        if isinstance(item, ProbeFacts):  # one entry for each probe
            return {k: v[order] if len(v) == n else v for k, v in arrays.items()}
        return _observed(arrays, places)

    membership = evaluation.membership
    return replace(
        evaluation,
        probes=of_probes(evaluation.probes),
        predictions={role: tuple(map(of_model, models)) for role, models in evaluation.predictions.items()},
        observed={
            (role, item): tuple(of_arrays(item, arrays) for arrays in found)
            for (role, item), found in evaluation.observed.items()
        },
        membership=None if membership is None else membership[:, order],
    )


def _observed(arrays, places):
    """Arrays whose items are named by `rows` (or `<part>_rows`), with these rows elsewhere, in ascending order."""
    out = dict(arrays)
    for name in [name for name in arrays if name.endswith(ROWS)]:
        part, count = name.removesuffix(ROWS), len(arrays[name])
        rows = np.concatenate([place[arrays[name]] for place in places])
        sorting = np.argsort(rows, kind="stable")
        for key, values in arrays.items():
            if not key.startswith(part) or (not part and key.startswith("train_")) or count not in values.shape:
                continue
            (axis,) = (i for i, size in enumerate(values.shape) if size == count)
            twice = np.concatenate([values] * len(places), axis=axis)
            out[key] = np.take(twice, sorting, axis=axis)
        out[name] = rows[sorting]
    return out
