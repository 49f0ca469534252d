"""What attacks by the prompt share: which rows are asked, what is told before the prompt, and asking all that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unlearn_cli.evaluation import Ids, Predictions, ProbeSet
from unlearn_cli.observations.attacked import FORGET, NEVER_KNOWN, evaluated_rows
from unlearn_cli.observations.base import Scene, Unobservable
from unlearn_cli.observations.contexts import chosen, in_context
from unlearn_cli.streams import generator
from unlearn_cli.worlds.facts import NONE
from unlearn_cli.worlds.language import Sentences


def drawn_rows(scene: Scene, most: int) -> Ids:
    """At most `most` rows of each attacked split, sorted; every fact of a split is asked once before one is twice."""
    probes, rng = scene.probes, generator(scene.seed, "attacked rows")
    rows = evaluated_rows(probes)
    kept = []
    for name, split in probes.splits.items():
        if name not in (FORGET, NEVER_KNOWN) and not name.endswith("/unseen"):
            continue  # others ask the same prompts on other answers
        inside = rng.permutation(np.intersect1d(split.rows, rows))
        kept.append(inside[np.argsort(_repetition(probes.fact[inside]), kind="stable")][:most])
    return np.unique(np.concatenate(kept)) if kept else rows


def ask(model: Any, scene: Scene, rows: Ids, told: Sequence[Sentences], templates: Ids | None = None) -> Predictions:
    """Answers to `rows` [n] when `told` stands before each prompt; `templates` [n] rephrase the prompts."""
    probes = scene.probes.only(rows)
    asked = scene.world.sentences(probes.fact, probes.template if templates is None else templates)
    return ask_written(model, scene, probes.fact, in_context(told, asked))


def ask_written(model: Any, scene: Scene, facts: Ids, written: Sentences) -> Predictions:
    """Answers to prompts [n] that are already written, among the objects of the relations of `facts` [n].

    Raises Unobservable where they are longer than the model reads.
    """
    from unlearn_cli import predict

    tokens, most = int(written.length.max(initial=0)), longest(model)
    if most is not None and tokens > most:
        raise Unobservable(f"the prompt with its context has {tokens} tokens, the model has {most} positions")
    nothing = np.zeros(len(facts), dtype=np.int64)  # templates: the prompts have theirs
    probes = ProbeSet(facts, nothing, scene.world.facts.subject[facts], scene.world.objects, {})
    return predict.predict(model, scene.world, probes, scene.batch_size, lambda part: chosen(written, part))


def longest(model: Any) -> int | None:
    """Most tokens that a row may have, as the model's config says; None if it says nothing."""
    plain = model if hasattr(model, "config") else model.model  # a guard stands before it
    most = getattr(plain.config, "max_position_embeddings", None)
    return None if most is None else int(most)


def told_of_others(scene: Scene, rows: Ids, count: int, rng: np.random.Generator, same_relation: bool) -> Ids:
    """`count` facts [n, count] of the retain pool for each row, of other subjects; NONE where it has fewer."""
    return _draw(scene, rows, scene.pool, count, rng, same_subject=False, same_relation=same_relation)


def told_of_the_subject(scene: Scene, rows: Ids, count: int, rng: np.random.Generator, leak: bool) -> Ids:
    """`count` other facts [n, count] of each row's subject, none of them requested; NONE where it has fewer.

    With `leak`, also those that follow from requested facts: to ask them gives nothing away, to state them would.
    """
    world = scene.world if leak else scene.world.apply(scene.request)
    known = np.setdiff1d(world.facts.trained, scene.request.facts)
    return _draw(scene, rows, known, count, rng, same_subject=True, same_relation=False)


def state(scene: Scene, facts: Ids, rng: np.random.Generator, objects: Ids | None = None) -> Sentences:
    """State facts [n], each in a draw of the trained templates; with other objects [n] if they are given."""
    asked = scene.world.language.asked
    return scene.world.sentences(facts, asked[rng.integers(0, len(asked), len(facts))], objects)


def _draw(
    scene: Scene,
    rows: Ids,
    facts: Ids,
    count: int,
    rng: np.random.Generator,
    same_subject: bool,
    same_relation: bool,
) -> Ids:
    """Draw without replacement for each row among `facts`; the row's own fact is never drawn."""
    table, asked = scene.world.facts, scene.probes.fact[rows]
    out = np.full((len(rows), count), NONE)
    subject, relation, own = table.subject[facts], scene.world.kinds(facts), scene.world.kinds(asked)
    for place, fact in enumerate(asked):
        fits = ((subject == table.subject[fact]) == same_subject) & (facts != fact)
        if same_relation:
            fits &= relation == own[place]
        left = facts[fits]
        found = rng.choice(left, min(count, len(left)), replace=False)
        out[place, : len(found)] = found
    return out


def _repetition(facts: Ids) -> Ids:
    """How often each fact [n] came before."""
    order = np.argsort(facts, kind="stable")
    ordered = facts[order]
    first = np.searchsorted(ordered, ordered)
    out = np.empty(len(facts), dtype=np.int64)
    out[order] = np.arange(len(facts)) - first
    return out
