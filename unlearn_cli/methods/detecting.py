"""Makes the detectors of guards; see `detection.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from unlearn_cli.errors import UnlearnError
from unlearn_cli.guards.detect import ANYTHING, NO_FACT, Detector, Match, Probe, states
from unlearn_cli.methods.gradients import chunks
from unlearn_cli.streams import generator

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.methods.detection import Detection
    from unlearn_cli.worlds.base import WorldData
    from unlearn_cli.worlds.language import Sentences
    from unlearn_cli.worlds.vocabulary import Ids

MOST = 8192  # prompts of a set that a probe learns from


@dataclass(frozen=True, eq=False)
class Detected:
    """A detector, and what making it took."""

    detector: Detector
    forward_tokens: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)


def matching(forget: WorldData, relation: bool) -> Detected:
    """An exact match of facts; UnlearnError if the world's sentences do not spell them."""
    match = match_of(forget, relation)
    missed = match.which(*_prompts(phrased(forget, None, None))) == NO_FACT
    if bool(missed.any()):
        raise UnlearnError(
            f"{float(missed.float().mean()):.0%} of the prompts about requested facts do not have the tokens of subject"
            + (" and relation: where relations are told in texts of their own, no match of both is possible" * relation)
        )
    return Detected(match)


def match_of(forget: WorldData, relation: bool) -> Match:
    """One pattern for each fact, in order; one for each subject unless `relation`.

    Real text has no tokens of its own for a subject: there a fact's pattern is its whole prompt.
    """
    if forget.choices is not None:
        return _of_prompts(forget, relation)
    table, role = forget.facts, forget.vocabulary["relation"]
    if relation:
        return Match.of(_subjects(forget, table.subject), torch.from_numpy(role.encode(table.relation)))
    subjects = _subjects(forget, np.unique(table.subject))
    return Match.of(subjects, subjects[:, :0])


def _of_prompts(forget: WorldData, relation: bool) -> Match:
    if not relation:
        raise UnlearnError("method.detector.relation: false given; real text has no tokens of its own for a subject")
    asked = forget.sentences(np.arange(len(forget.facts)), np.full(len(forget.facts), forget.language.asked[0]))
    prompts = asked.input_ids[:, : int(asked.answer_start.max())]
    inside = np.arange(prompts.shape[1]) < asked.answer_start[:, None]
    patterns = torch.from_numpy(np.where(inside, prompts, ANYTHING))
    return Match.of(patterns, patterns[:, :0])


def probing(how: Detection, model: PreTrainedModel, forget: WorldData, retain: WorldData, seed: int) -> Detected:
    """A logistic regression and its threshold; UnlearnError if there are too few retain subjects to set one."""
    rng = generator(seed, "edit", "probe")
    subjects = rng.permutation(np.unique(retain.facts.subject))
    if len(subjects) < 2:
        raise UnlearnError("method.detector.kind = probe: retain facts of two subjects at least are needed")
    first = np.isin(retain.facts.subject, subjects[: len(subjects) // 2])
    sets = [
        phrased(forget, None, rng),
        phrased(retain, np.flatnonzero(first), rng),
        phrased(retain, np.flatnonzero(~first), rng),
    ]
    about, other, held = (_states(model, sentences, how.layer) for sentences in sets)
    weight = logistic(about, other, how.l2)
    limit = threshold(held @ weight, how.fpr)
    probe = Probe(how.layer, about.shape[1])
    probe.weight, probe.threshold = weight.float(), limit.float()
    return Detected(
        probe.to(next(model.parameters()).device),
        sum(int(sentences.answer_start.sum()) for sentences in sets),
        {
            "flagged_forget": float((about @ weight > limit).double().mean()),
            "flagged_retain": float((held @ weight > limit).double().mean()),
        },
    )


def logistic(positive: Tensor, negative: Tensor, l2: float) -> Tensor:
    """Weights [d] of a regularised logistic regression on standardised features, both classes of equal weight.

    Scores are x @ weight; there is no offset, since a threshold is put on them.
    """
    features = torch.cat([positive, negative])
    mean, deviation = features.mean(0), features.std(0).clamp(min=1e-6)
    scaled = (features - mean) / deviation
    labels = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))]).to(features)
    shares = torch.where(labels > 0, 0.5 / len(positive), 0.5 / len(negative))
    weight = torch.zeros(scaled.shape[1] + 1, dtype=scaled.dtype, device=scaled.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=300, line_search_fn="strong_wolfe", tolerance_grad=1e-8)

    def closure() -> Tensor:
        optimizer.zero_grad()
        scores = scaled @ weight[:-1] + weight[-1]
        loss = binary_cross_entropy_with_logits(scores, labels, weight=shares, reduction="sum")
        loss = loss + l2 / 2 * weight[:-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return (weight[:-1] / deviation).detach()


def threshold(scores: Tensor, fpr: float) -> Tensor:
    """The lowest of `scores` [n] that at most a share `fpr` of them is above."""
    above = int(fpr * len(scores) + 1e-9)  # how many may be
    if above >= len(scores):
        return scores.new_tensor(-torch.inf)
    return scores.sort(descending=True).values[above]


def phrased(world: WorldData, facts: Ids | None, rng: np.random.Generator | None, most: int = MOST) -> Sentences:
    """Facts, all by default, in every trained phrasing; with `rng` no more than `most` prompts, drawn."""
    facts = np.arange(len(world.facts)) if facts is None else facts
    templates = world.language.asked
    rows = np.arange(len(facts) * len(templates))
    if rng is not None and len(rows) > most:
        rows = np.sort(rng.choice(rows, most, replace=False))
    return world.sentences(facts[rows // len(templates)], templates[rows % len(templates)])


def _prompts(sentences: Sentences) -> tuple[Tensor, Tensor]:
    """Rows and where their prompts end."""
    return torch.from_numpy(sentences.input_ids), torch.from_numpy(sentences.answer_start - 1)


def _states(model: PreTrainedModel, sentences: Sentences, layer: int) -> Tensor:
    """States [n, d] of prompts, in float64."""
    device = next(model.parameters()).device
    pieces = []
    for part in chunks(sentences):
        ids, ends = _prompts(part)
        pieces.append(states(model, ids.to(device), ends.to(device), layer).cpu().double())
    return torch.cat(pieces)


def _subjects(world: WorldData, subjects: Ids) -> Tensor:
    """Tokens [n, W] of entities, ANYTHING behind the end of those that have fewer."""
    language, vocabulary = world.language, world.vocabulary
    people = subjects < language.subjects
    roles = {True: vocabulary["subject"], False: vocabulary["object"]}
    widest = max(roles[kind].tokens_per_word for kind in set(people.tolist()))
    out = np.full((len(subjects), widest), ANYTHING, dtype=np.int64)
    for kind, role in roles.items():
        words = subjects[people == kind] - (0 if kind else language.subjects)
        if len(words):
            out[people == kind, : role.tokens_per_word] = role.encode(words)
    return torch.from_numpy(out)
