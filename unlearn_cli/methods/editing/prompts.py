"""Sentences as an editor reads them: where it edits, where the model answers, what blocks and matrices see there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods.editing.editor import Site
from unlearn_cli.methods.editing.network import at, blocks, in_rows, only, output_of, states_of
from unlearn_cli.training.fit import answer_mask
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.language import Sentences
from unlearn_cli.worlds.vocabulary import Ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Prompts:
    """Rows up to the last token that predicts an answer."""

    ids: Tensor  # [B, L]
    sites: Tensor  # [B, S] where the edit takes place
    read: Tensor  # [B, T] where the answers are predicted
    answers: Tensor  # [B, T]
    tokens: int  # without padding
    mask: Tensor | None = None  # [B, T] whether an answer's token stands in a place; None: in every one
    sites_mask: Tensor | None = None  # [B, S] whether a site is one; None: all


@dataclass(frozen=True, eq=False)
class Reading:
    """What the model computes on prompts."""

    hidden: Tensor  # [B, L, d] put out by the highest of the blocks that were read
    keys: dict[int, Tensor]  # block number -> [B, S, d_ff] at the sites


def sited(sentences: Sentences, site: Site) -> NDArray[np.bool_]:
    """Whether sentences [n] have the site of an edit: the user's own may name no subject."""
    return (sentences.subject_end >= 0) | (site == "answer")


def prompts(sentences: Sentences, site: Site, device: torch.device) -> Prompts:
    """Sentences for an edit at `site`; UnlearnError for one without it."""
    if not sited(sentences, site).all():
        raise UnlearnError("method.site: 'subject' given, and not every row names its subject; 'answer', or name them")
    read = sentences.positions - 1
    sites = read if site == "answer" else sentences.subject_end[:, None]

    def tensor(array: Ids) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    tokens, mask = int(sentences.answer_end.sum()), answer_mask(sentences, device)
    ids = tensor(sentences.through_answer[:, :-1])
    sites_mask = mask if site == "answer" else None
    return Prompts(ids, tensor(sites), tensor(read), tensor(sentences.answers), tokens, mask, sites_mask)


def stated(world: WorldData, facts: Ids, templates: Ids, objects: Ids, site: Site, device: torch.device) -> Prompts:
    """Facts [n] with objects [n], each in every one of `templates`; the rows of a fact follow each other."""
    each = np.repeat(facts, len(templates))
    written = world.sentences(each, np.tile(templates, len(facts)), np.repeat(objects, len(templates)))
    return prompts(written, site, device)


def others(world: WorldData, facts: Ids, template: int, site: Site, device: torch.device) -> tuple[Prompts, Ids] | None:
    """The subjects of facts [n] with all their other relations, for the first answer token; None if there are none.

    And which of the facts each row [B] is beside.
    """
    edge, table = world.relations.edge, world.facts
    told = [
        (place, s, r)
        for place, (s, q) in enumerate(zip(table.subject[facts], table.relation[facts], strict=True))
        for r in np.flatnonzero(edge == edge[q])
        if r != q
    ]
    owner, subject, relation = np.array(told, dtype=np.int64).reshape(-1, 3).T
    spoken = world.language.speaks_of(subject, relation)
    owner, subject, relation = owner[spoken], subject[spoken], relation[spoken]
    if not len(owner):
        return None
    templates, anything = np.full(len(owner), template), np.zeros(len(owner), dtype=np.int64)  # the object is cut off
    fits = sited(world.language.write(templates, subject, relation, anything), site)
    if not fits.any():
        return None
    owner, asked = owner[fits], (templates[fits], subject[fits], relation[fits], anything[fits])
    made = prompts(world.language.write(*asked), site, device)
    return Prompts(made.ids, made.sites[:, :1], made.read[:, :1], made.answers[:, :1], made.tokens), owner


@torch.no_grad()
def read(model: PreTrainedModel, rows: Prompts, layers: Sequence[int]) -> Reading:
    """Run the blocks up to the highest of `layers` on `rows`."""
    every = blocks(model)
    keys: dict[int, Tensor] = {}
    hidden: list[Tensor] = []

    def keep(layer: int) -> Any:
        return lambda module, inputs: keys.__setitem__(layer, at(in_rows(inputs[0], len(rows.ids)), rows.sites))

    top = every[max(layers)]
    hooks = [output_of(every[layer]).register_forward_pre_hook(keep(layer)) for layer in layers]
    hooks.append(top.register_forward_hook(lambda module, inputs, out: hidden.append(states_of(out))))
    try:
        with only(model, every[: max(layers) + 1]) as body:
            body(input_ids=rows.ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return Reading(hidden[0], keys)
