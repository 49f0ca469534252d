"""Whether a model has the blocks that a method names: told before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from unlearn_cli.models.anatomy import OUTPUTS, mlp_matrix, stack

if TYPE_CHECKING:
    from unlearn_cli.experiment import Experiment
    from unlearn_cli.worlds.base import WorldData

FIRST_AND_LAST = {0, -1}  # which every model has


def block_problems(experiment: Experiment, world: WorldData) -> list[str]:
    """A line for each block that is not there, or that the method cannot use.

    The model is laid out without weights for it, and only if there is a doubt.
    """
    asked = list(_asked(experiment.method, "method"))
    at_subject = getattr(experiment.method, "site", None) == "subject"
    writes = hasattr(experiment.method, "edited_layers")  # into one matrix of each block
    method = experiment.chosen("method")
    known = not (experiment.model.trained and writes)
    if known and not at_subject and all(set(layers) <= FIRST_AND_LAST for _, layers in asked):
        return []
    model = experiment.model.skeleton(world.vocabulary.size, world.max_length)
    if model is None:
        return []
    try:
        body, held = stack(model)
    except LookupError as error:
        return [f"method: {method} needs the model's blocks, and there is {error}"] if asked else []
    blocks = list(getattr(body, held))
    problems = [problem for field, layers in asked for problem in _missing(field, layers, len(blocks))]
    if problems:
        return problems
    if writes and mlp_matrix(blocks[0], OUTPUTS) is None:
        why = f"{type(blocks[0]).__name__} has none ({', '.join(OUTPUTS)}), nor has any mixture of experts"
        problems.append(f"method: {method} writes a block's one MLP output matrix; {why}: a method with a loss")
    if at_subject and any(len(blocks) - 1 in (layer % len(blocks) for layer in layers) for _, layers in asked):
        told = f"what the last block writes there never reaches the answer: blocks 0 to {len(blocks) - 2}"
        problems.append(f"method.site: 'subject' given, with {' and '.join(field for field, _ in asked)}; {told}")
    return problems


def _asked(component: Any, name: str) -> Iterator[tuple[str, list[int]]]:
    """Fields of a component, and of those inside it, that name blocks, with the blocks."""
    for field in dataclasses.fields(component):
        value, path = getattr(component, field.name), f"{name}.{field.name}"
        if field.name == "layer" and isinstance(value, int):
            yield path, [value]
        elif field.name == "layers" and isinstance(value, list):
            yield path, value
        elif dataclasses.is_dataclass(value):
            yield from _asked(value, path)


def _missing(field: str, layers: list[int], count: int) -> list[str]:
    wrong = [layer for layer in layers if not -count <= layer < count][:1]
    return [f"{field}: {layer} given; this model has blocks 0 to {count - 1}, or {-count} to -1" for layer in wrong]
