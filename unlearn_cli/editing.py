"""Carry out an edit by its schedule: all facts at once, one after another, or each on a fresh base."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unlearn_cli import predict
from unlearn_cli.builders import PREDICTIONS
from unlearn_cli.evaluation import Predictions
from unlearn_cli.guards.base import Guarded
from unlearn_cli.machine import require
from unlearn_cli.methods.base import EditContext, EditReport
from unlearn_cli.models import checkpoint
from unlearn_cli.streams import derive
from unlearn_cli.study import Study
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.request import EditRequest

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Given:
    """The folders that an edit starts from."""

    base: Path
    gold: tuple[Path, ...] = ()
    prepared: Path | None = None


def carry_out(study: Study, given: Given, runtime: Runtime, folder: Path) -> tuple[PreTrainedModel, EditReport]:
    """Return the edited model and what it took; the last one, if every request has its own.

    Then `predictions.npz` in `folder` has the answers of each to its own probes.
    """
    require(study.numerics)
    torch.set_num_threads(study.numerics.threads)
    start = study.experiment.model.prepared(checkpoint.load(given.base, *study.numerics.places))
    if not study.independent:
        model = start
        reports = [report for report, _ in _edits(study, _same(model), given, runtime, folder)]
        return model, _total(reports)
    reports, answers = list[EditReport](), list[Predictions]()
    for report, model in _edits(study, _fresh(start), given, runtime, folder):
        reports.append(report)
        answering = model if report.guard is None else Guarded(model, report.guard)
        answers.append(_ask(study, answering, len(answers)))
    predict.save(_in_order(answers), folder / PREDICTIONS)
    return model, _total(reports)


def _same(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """The model itself for every request."""
    while True:
        yield model


def _fresh(base: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """A copy of the base for every request."""
    while True:
        yield copy.deepcopy(base)


def _edits(
    study: Study, models: Iterator[PreTrainedModel], given: Given, runtime: Runtime, folder: Path
) -> Iterator[tuple[EditReport, PreTrainedModel]]:
    """Edit one model after another, each by its request; a request of its own has a seed of its own."""
    seed, requests = study.method_seed, study.requests()
    memory: dict[str, Any] = {}
    for number, (request, model) in enumerate(zip(requests, models, strict=False)):
        own = seed if len(requests) == 1 else derive(seed, "request", number)
        kept = {} if study.independent else memory
        place = folder if len(requests) == 1 else folder / f"request-{number:04}"
        before = len(runtime.curves)
        report = _edit(study, request, model, given, EditContext(runtime, own, place, kept))
        if len(requests) > 1:
            _number(runtime.curves, before, number)
        yield report, model


def _edit(study: Study, request: EditRequest, model: PreTrainedModel, given: Given, context: EditContext) -> EditReport:
    data = replace(study.edit_data(request), gold=given.gold, prepared=given.prepared)
    return study.experiment.method.edit(model, data, context)


def _number(curves: list[dict[str, float]], start: int, request: int) -> None:
    """Say whose the rows from `start` on are, and go on counting their steps."""
    offset = curves[start - 1]["step"] if start else 0.0
    for row in curves[start:]:
        row["step"] += offset
        row["request"] = float(request)


def _ask(study: Study, model: PreTrainedModel | Guarded, request: int) -> Predictions:
    owner = study.probes.request
    assert owner is not None
    probes = study.probes.only(np.flatnonzero(owner == request))
    return predict.predict(model, study.world, probes, study.experiment.evaluate.batch_size)


def _in_order(answers: Sequence[Predictions]) -> Predictions:
    """The probes of all requests are laid out one request after another."""
    names = ("candidate_logps", "greedy", "refusal_logps")
    return Predictions(*(np.concatenate([getattr(part, name) for part in answers]) for name in names))


def _total(reports: Sequence[EditReport]) -> EditReport:
    """What all requests took together; notes of the first, the guard that the last one left."""
    notes: Mapping[str, Any] = reports[0].notes
    return EditReport(
        steps=sum(report.steps for report in reports),
        forward_tokens=sum(report.forward_tokens for report in reports),
        backward_tokens=sum(report.backward_tokens for report in reports),
        trainable_parameters=max(report.trainable_parameters for report in reports),
        notes=notes,
        guard=reports[-1].guard,
    )
