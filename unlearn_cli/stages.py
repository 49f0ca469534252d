"""The stages of a run: what the result of each depends on. `builders.py` says how each is made.

A stage's inputs hold every value that can change its bits and nothing else: paths, logging and the metrics of other
stages stay out, so that a base is trained once for a whole grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unlearn_cli.cache import Stage
from unlearn_cli.cache.canonical import canonical_sha256
from unlearn_cli.config import TARGET, plain
from unlearn_cli.evaluation import Role
from unlearn_cli.models.base import Model
from unlearn_cli.models.pretrained import Pretrained
from unlearn_cli.observations.base import Observation
from unlearn_cli.study import Study
from unlearn_cli.training.recipe import NoTraining
from unlearn_cli.unlearned_shadow import repeatable, shadow_study
from unlearn_cli.worlds import shadow

Purpose = tuple[str | int, ...]  # names random streams


def base_purpose(replica: int = 0) -> Purpose:
    """Names the random streams of the base."""
    return ("base", *_again(replica))


def gold_purpose(member: int, replica: int = 0) -> Purpose:
    """Names the random streams of one gold model."""
    return ("gold", member, *_again(replica))


def _again(replica: int) -> Purpose:
    """What tells the streams of a replica from those of the first, whose names have no number."""
    return ("replica", replica) if replica else ()


def base_stage(study: Study) -> Stage:
    """The base: trained on the whole world, or the checkpoint as it is."""
    if isinstance(study.experiment.train, NoTraining):
        return Stage("train", _label(study, "world", "model"), _loading(study, study.experiment.model))
    purpose = {"purpose": list(base_purpose(study.experiment.replica))}
    return Stage("train", _label(study, "world", "model"), _training(study) | purpose)


def gold_stage(study: Study, member: int) -> Stage:
    """A gold model: trained on the counterfactual world, or a checkpoint. Depends on the request, not on the method."""
    if given := given_gold(study):
        return Stage("gold", f"{_label(study, 'world', 'edit')}-given", _loading(study, given))
    label = f"{_label(study, 'world', 'model', 'edit')}-{member}"
    purpose = list(gold_purpose(member, study.experiment.replica))
    changed = {"purpose": purpose, "request": study.request.to_dict()}
    return Stage("gold", label, _training(study) | changed)


def given_gold(study: Study) -> Pretrained | None:
    """The checkpoint that stands for gold, if one is named."""
    path = study.experiment.gold.path
    return Pretrained(path=path) if path else None


def gold_stages(study: Study) -> list[Stage]:
    """The reference models of a run."""
    return [gold_stage(study, member) for member in range(study.experiment.golds)]


def fresh_gold_stage(study: Study) -> Stage:
    """One more gold model, which is not among the references."""
    return gold_stage(study, study.experiment.gold.n)


def shadow_purpose(member: int) -> tuple[str, int]:
    """Names the random streams of one shadow model."""
    return ("shadow", member)


def shadow_stage(study: Study, member: int) -> Stage:
    """A shadow model: trained on half of the subjects, reserved ones included. Depends on the world, not the edit."""
    halves = {"purpose": list(shadow_purpose(member)), "halves": shadow.VERSION}
    return Stage("shadow", f"{_label(study, 'world', 'model')}-{member}", _training(study) | halves)


def shadow_stages(study: Study) -> list[Stage]:
    """As many shadow models, in pairs, as the most demanding metric reads."""
    most = max((metric.shadows for metric in study.experiment.metric.values()), default=0)
    return [shadow_stage(study, member) for member in range(most + most % 2)]


def unlearned_shadow_stage(study: Study, member: int) -> Stage:
    """A shadow after the method: asked for those of the requested facts that the shadow was taught.

    The shadow itself where it was taught none.
    """
    base, own = shadow_stage(study, member), shadow_study(study, member)
    if own is None:
        return base
    inputs = _editing(own, base)
    if "retain" in own.experiment.method.needs:
        inputs["retain"] = canonical_sha256(own.pool.tolist())
    return Stage("edit", f"{_label(study, 'world', 'method')}-shadow-{member}", inputs)


def unlearned_shadow_stages(study: Study) -> list[Stage]:
    """As many as the most demanding metric reads; none where the edit cannot be repeated."""
    most = max((metric.unlearned_shadows for metric in study.experiment.metric.values()), default=0)
    return [unlearned_shadow_stage(study, member) for member in range(most)] if most and repeatable(study) else []


def corrupt_stage(study: Study) -> Stage | None:
    """The base after it was taught wrong objects for the requested facts, of an edit that is to undo this."""
    corruption = study.experiment.edit.corrupts()
    if corruption is None:
        return None
    inputs = {
        **_from(study, base_stage(study)),
        "corruption": plain(corruption),
        "request": study.request.to_dict(),
        "seed": study.experiment.seed,
        "numerics": study.numerics.to_dict(),
    }
    return Stage("corrupt", _label(study, "world", "model", "edit"), inputs)


def start_stage(study: Study) -> Stage:
    """The model that is edited, the base of every comparison: as it was trained, or corrupted."""
    return corrupt_stage(study) or base_stage(study)


def prepare_stage(study: Study) -> Stage | None:
    """What a method makes before it edits; depends on the request only in the retain facts that it leaves."""
    method = study.experiment.method
    if method.prepares is None:
        return None
    decisive = method.prepares | {TARGET, "version"}
    inputs: dict[str, Any] = {
        **_from(study, start_stage(study)),
        "method": {name: value for name, value in plain(method).items() if name in decisive},
        "phrasing": study.request.phrasing,
        "seed": study.method_seed,
        "numerics": study.numerics.to_dict(),
    }
    if "retain" in method.needs:
        inputs["retain"] = canonical_sha256(study.pool.tolist())
    return Stage("prepare", _label(study, "world", "method"), inputs)


def edit_stage(study: Study) -> Stage:
    """The edited model."""
    experiment, needs = study.experiment, study.experiment.method.needs
    inputs = _editing(study, start_stage(study))
    if prepared := prepare_stage(study):
        inputs["prepared"] = prepared.digest
    if study.independent:  # the answers of each model are taken when it is made
        inputs["probes"] = [probe_inputs(study), plain(experiment.retain)]
    if "retain" in needs:
        inputs["retain"] = plain(experiment.retain)
    if "gold" in needs:
        inputs["gold"] = [stage.digest for stage in gold_stages(study)]
    if "gold_fresh" in needs:
        inputs["gold"] = [fresh_gold_stage(study).digest]
    return Stage("edit", _label(study, "world", "method"), inputs)


def predict_stage(study: Study, model: Stage) -> Stage:
    """One model's answers to the probes. Base's and gold's do not depend on the method."""
    return Stage("predict", f"{model.label}-{model.name}", _asked(study, model))


def observe_stage(study: Study, observation: Observation, model: Stage, beside: Sequence[Stage] = ()) -> Stage:
    """One observation of one model. Base's and gold's do not depend on the method."""
    inputs = {"observation": plain(observation), "beside": [stage.digest for stage in beside]}
    inputs |= _asked(study, model)
    return Stage("observe", f"{model.label}-{model.name}-{type(observation).__name__}", inputs)


def probe_inputs(study: Study) -> dict[str, Any]:
    """What decides which probes are asked, and their last bits."""
    evaluate = study.experiment.evaluate
    sizes = {"facts": evaluate.facts, "templates": evaluate.templates, "requested": evaluate.requested}
    return sizes | {"batch_size": evaluate.batch_size, "each_request": study.independent}


def evaluate_stage(study: Study, failed: Mapping[str, str] | None = None) -> Stage:
    """All metrics of a run. `failed` says which observations ended in an error, so that a mended one is not missed."""
    experiment, models = study.experiment, model_stages(study)
    inputs = {
        "predictions": [predict_stage(study, model).digest for found in models.values() for model in found],
        "observations": [stage.digest for stage in observe_stages(study, models)],
        "failed": dict(failed or {}),
        "metric": {name: plain(metric) for name, metric in experiment.metric.items()},
        "bootstrap": [experiment.evaluate.bootstrap_samples, experiment.evaluate.level],
        "seed": experiment.seed,
    }
    return Stage("evaluate", edit_stage(study).label, inputs)


def model_stages(study: Study) -> dict[Role, list[Stage]]:
    """The models that are evaluated."""
    found: dict[Role, list[Stage]] = {"base": [start_stage(study)], "edited": [edit_stage(study)]}
    found |= {"gold": gold_stages(study), "shadow": shadow_stages(study)}
    return found | {"unlearned_shadow": unlearned_shadow_stages(study)}


def observe_stages(study: Study, models: Mapping[Role, Sequence[Stage]]) -> list[Stage]:
    """Every observation of every model of a run."""
    return [
        observe_stage(study, item, model, [models[other][0] for other in item.beside if models.get(other)])
        for item in observations(study)
        for role in item.roles
        for model in models.get(role, ())
    ]


def observations(study: Study) -> list[Observation]:
    """What the metrics of a run want to be observed, each once; nothing where there is no one edited model."""
    if study.independent:
        return []
    return list(dict.fromkeys(item for metric in study.experiment.metric.values() for item in metric.observations))


def all_stages(study: Study) -> list[Stage]:
    """Every stage of a run, in the order in which they are needed."""
    fresh = [fresh_gold_stage(study)] if "gold_fresh" in study.experiment.method.needs else []
    prepared = [stage for stage in [prepare_stage(study)] if stage]
    clean = [base_stage(study)] if corrupt_stage(study) else []
    models = [start_stage(study), *gold_stages(study), *fresh, *shadow_stages(study), *prepared, edit_stage(study)]
    models += [stage for stage in unlearned_shadow_stages(study) if stage.name == "edit"]
    asked = [predict_stage(study, model) for model in models if model not in [*fresh, *prepared]]
    return [*clean, *models, *asked, *observe_stages(study, model_stages(study)), evaluate_stage(study)]


def _training(study: Study) -> dict[str, Any]:
    experiment = study.experiment
    return {
        "world": _world(study),
        "model": plain(experiment.model) | experiment.model.source(),
        "train": plain(experiment.train),
        "seed": experiment.seed,
        "numerics": study.numerics.to_dict(),
    }


def _loading(study: Study, model: Model) -> dict[str, Any]:
    return {"model": plain(model) | model.source(), "tokens": study.experiment.world.source().get("tokenizer")}


def _from(study: Study, start: Stage) -> dict[str, Any]:
    """A model that was trained here tells by its digest on which world; one that was loaded has seen none."""
    loaded = isinstance(study.experiment.train, NoTraining)
    return {"base": start.digest} | ({"world": _world(study)} if loaded else {})


def _editing(study: Study, base: Stage) -> dict[str, Any]:
    return {
        **_from(study, base),
        "method": plain(study.experiment.method) | study.experiment.method.source(),
        "request": study.request.to_dict(),
        "schedule": study.experiment.edit.schedule,
        "seed": study.method_seed,
        "numerics": study.numerics.to_dict(),
    }


def _asked(study: Study, model: Stage) -> dict[str, Any]:
    return {
        "model": model.digest,
        "world": _world(study),
        "request": study.request.to_dict(),
        "retain": plain(study.experiment.retain),
        "probes": probe_inputs(study),
        "seed": study.experiment.seed,
        "numerics": study.numerics.to_dict(),
    }


def _world(study: Study) -> dict[str, Any]:
    """The world's fields; what it reads from files stands for their names."""
    world: dict[str, Any] = plain(study.experiment.world)
    return world | study.experiment.world.source()


def _label(study: Study, *groups: str) -> str:
    return "-".join(study.experiment.chosen(group) for group in groups)
