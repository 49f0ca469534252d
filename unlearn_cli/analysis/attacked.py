"""What metrics say of a model before and after an attack, from the answers that its run left in the cache.

The attack metrics report one measure of knowledge, candidate accuracy. Here any metric that scores probes one by one is
applied to the same stored answers: of the attacked model, and of the model before, on the items that both were asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from unlearn_cli.errors import UnlearnError
from unlearn_cli.evaluation import Predictions, Split
from unlearn_cli.experiment import Experiment
from unlearn_cli.metrics.probe import ProbeMetric
from unlearn_cli.observing import ARRAYS
from unlearn_cli.results import Result
from unlearn_cli.study import Study

FORGET = "forget"
Wanted = Mapping[str, Any]  # fields of an observation, such as {"bits": 4}


@dataclass(frozen=True)
class Change:
    """A metric of one model on the same items, without and with the attack."""

    before: float
    after: float


@dataclass(frozen=True)
class Attacked:
    """A metric of the edited model and of gold, each without and with one attack."""

    edited: Change
    gold: Change


def changes(result: Result, wanted: Wanted) -> dict[str, Attacked]:
    """By the metric's key, `<metric>/forget`; empty where the run has no such attack, no gold, or nothing to forget."""
    study = rebuilt(result.run_dir)
    split = study.probes.splits.get(FORGET)
    observations = {inputs["model"]: arrays for inputs, arrays in observed(result, wanted)}
    edited, golds = result.stages["edit"]["digest"], [gold["digest"] for gold in _golds(result)]
    if (
        split is None
        or not len(split.rows)
        or edited not in observations
        or not all(gold in observations for gold in golds)
    ):
        return {}
    before = dict(zip(["base", edited, *golds], predictions(result), strict=False))
    metrics = [metric for metric in study.experiment.metric.values() if isinstance(metric, ProbeMetric)]
    found = {}
    for metric in metrics:
        each = [_change(metric, split, before[model], observations[model]) for model in (edited, *golds)]
        mean = Change(*(float(np.mean([getattr(c, end) for c in each[1:]])) for end in ("before", "after")))
        if golds:
            found[f"{metric.name}/{FORGET}"] = Attacked(each[0], mean)
    return found


def rebuilt(run: Path) -> Study:
    """The world, request and probes of a run, from the configuration that it left."""
    from omegaconf import OmegaConf

    config = run / ".hydra" / "config.yaml"
    if not config.is_file():
        raise UnlearnError(f"{run}: no .hydra/config.yaml, which runs from the command line have")
    plain = yaml.safe_load(OmegaConf.to_yaml(OmegaConf.load(config), resolve=True))
    return Study.of(Experiment.from_config(plain))


def predictions(result: Result) -> Iterator[Predictions]:
    """Answers of a run's base, edited model, gold models, shadows, in this order."""
    from unlearn_cli.builders import PREDICTIONS
    from unlearn_cli.predict import load

    for digest in result.stages["evaluate"]["predictions"]:
        folder = next((_cache(result) / "predict").glob(f"*-{digest}"), Path(digest))
        yield load(_there(folder / PREDICTIONS))


def _change(metric: ProbeMetric, split: Split, before: Predictions, arrays: Mapping[str, Any]) -> Change:
    asked = np.isin(split.rows, arrays["rows"])
    rows, answer = split.rows[asked], split.answer[asked]
    tries = zip(arrays["candidate_logps"], arrays["greedy"], strict=True)
    place = np.searchsorted(arrays["rows"], rows)
    after = [metric.items(_answers(*one), place, answer) for one in tries]
    mean = np.median if metric.statistic == "median" else np.mean
    return Change(float(mean(metric.items(before, rows, answer))), float(np.mean([mean(items) for items in after])))


def _answers(logps: Any, greedy: Any) -> Predictions:
    """Answers under attack, of which the refusal's probability is not kept."""
    return Predictions(logps, greedy, np.full(len(greedy), -np.inf, dtype=np.float32))


def _golds(result: Result) -> Sequence[Mapping[str, Any]]:
    gold: Mapping[str, Any] = result.stages.get("gold", {})
    return list(gold.get("members", ()))


def observed(result: Result, wanted: Wanted) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """For each model that was observed so: the inputs of that stage, and the arrays that it left."""
    for item in result.stages["evaluate"]["observations"]:
        folder = _cache(result) / "observe" / f"{item['label']}-{item['digest']}"
        inputs = json.loads(_there(folder / "done.json").read_text())["inputs"]
        if wanted.items() <= inputs["observation"].items() and (folder / ARRAYS).exists():
            with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
                yield inputs, dict(arrays)


def _cache(result: Result) -> Path:
    return Path(result.stages["evaluate"]["path"]).parent.parent


def _there(path: Path) -> Path:
    if not path.exists():
        raise UnlearnError(f"{path}: the cache no longer has what the run left there; run it again")
    return path
