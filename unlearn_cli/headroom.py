"""Memory before it hurts: an estimate ahead of a large stage, and, when memory is gone, which settings would fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from unlearn_cli.errors import UnlearnError
from unlearn_cli.footprint import Footprint, footprint
from unlearn_cli.memory import GIB, available, gib, is_exhausted
from unlearn_cli.methods.loss import LossMethod
from unlearn_cli.models.pretrained import Pretrained
from unlearn_cli.study import Study
from unlearn_cli.training.recipe import Train

if TYPE_CHECKING:
    from unlearn_cli.training.loop import Runtime

log = logging.getLogger(__name__)

LARGE, SHARE = GIB, 0.25  # told from so many bytes on, or from so much of what is free
RANK = 8  # of the adapter that is proposed

Changed = tuple[str, Study]  # overrides, and the study with them


def announce(study: Study, runtime: Runtime) -> None:
    """Log what a large stage will take, as a warning with what to do if it is more than there is."""
    needed = footprint(study, runtime.stage)
    free = available(*study.numerics.places)
    small = LARGE if free is None else min(LARGE, SHARE * free)
    if needed is None or runtime.crew.rank or needed.total < small:
        return
    told = f"{runtime.stage}: about {gib(needed.total)} of memory ({parts(needed)})"
    if free is None or needed.total <= free:
        log.info("%s%s", told, "" if free is None else f"; {gib(free)} are free")
    else:
        log.warning("%s, but %s are free: it may fail; %s", told, gib(free), advice(study, runtime.stage, free))


def room_for_two(study: Study) -> bool:
    """Whether base and gold can be trained at the same time, as far as is known."""
    needed, free = footprint(study, "train"), available("cpu")
    if needed is None or free is None or 2 * needed.total <= free:
        return True
    told = f"two take about {gib(2 * needed.total)} of memory, and {gib(free)} are free"
    log.info("base and gold are trained one after the other: %s", told)
    return False


@contextmanager
def explained(study: Study, stage: str) -> Iterator[None]:
    """Turn a lack of memory into an UnlearnError that says what was needed and what would fit."""
    free = available("cpu") if study.numerics.accelerator == "cpu" else None
    try:
        yield
    except UnlearnError:
        raise
    except Exception as error:
        if not is_exhausted(error):
            raise
        first = f"{stage}: out of memory ({str(error).strip().splitlines()[0] if str(error) else 'MemoryError'})"
        raise UnlearnError("; ".join([first, *_needs(study, stage, free)])) from error


def _needs(study: Study, stage: str, free: int | None) -> list[str]:
    """What the stage takes, what there was, and what to do."""
    needed = footprint(study, stage)
    if free is None and study.numerics.accelerator == "cuda":
        free = _whole(study.numerics.places)
    said = [] if needed is None else [f"about {gib(needed.total)} are needed ({parts(needed)})"]
    said += [] if free is None else [f"{gib(free)} were there"]
    return [*said, advice(study, stage, free)]


def _whole(cards: Sequence[str]) -> int:
    """Bytes that GPUs have, free or not."""
    import torch

    return sum(int(torch.cuda.mem_get_info(card)[1]) for card in cards)


def parts(needed: Footprint) -> str:
    """A footprint in words."""
    named = {
        "weights": needed.weights,
        "frozen copies": needed.copies,
        "gradients": needed.gradients,
        "optimizer": needed.optimizer,
        "activations and logits": needed.step,
    }
    return ", ".join(f"{name} {gib(size)}" for name, size in named.items() if size)


def advice(study: Study, stage: str, free: int | None) -> str:
    """Settings that fit, each alone; together if none does alone; for other stages those that matter there."""
    if footprint(study, stage) is None:
        return _elsewhere(study, stage)
    limit, last = free or 0, study
    fitting: list[str] = []
    words: list[str] = []
    for change in _changes(stage):
        if (alone := change(study, limit)) and _total(alone[1], stage) <= limit:
            fitting.append(f"{alone[0]} ({gib(_total(alone[1], stage))})")
        if further := change(last, limit):
            words, last = [*words, further[0]], further[1]
    if fitting:
        return f"settings that fit: {' | '.join(fitting)}"
    if not words:
        return "a smaller model, or more memory"
    total = _total(last, stage)
    if total <= limit:
        return f"settings that fit together: {' '.join(words)} ({gib(total)})"
    return f"least memory with {' '.join(words)} ({gib(total)}); else a smaller model, or more memory"


def _changes(stage: str) -> list[Callable[[Study, int], Changed | None]]:
    """What makes a stage smaller, what costs least first."""
    if stage == "edit":
        return [_smaller_edit_batch, _checkpointing, _bfloat16, _adapter]
    return [_smaller_batch, _checkpointing, _bfloat16]


def _smaller_batch(study: Study, limit: int) -> Changed | None:
    """Half the batch, and again, until it fits."""
    train, now = study.experiment.train, study
    assert isinstance(train, Train)
    rows = train.batch(len(study.world.deck("estimate").facts))
    while rows > 1 and _total(now, "train") > limit:
        rows //= 2
        now = replace(study, experiment=replace(study.experiment, train=replace(train, batch_size=rows)))
    return None if now is study else (f"train.batch_size={rows}", now)


def _smaller_edit_batch(study: Study, limit: int) -> Changed | None:
    """Half of both batches, and again, until it fits."""
    method, now = study.experiment.method, study
    assert isinstance(method, LossMethod)
    asked = len(study.requests()[0].facts)
    forget, retain = min(method.forget_batch or asked, asked), method.retain_batch
    while max(forget, retain) > 1 and _total(now, "edit") > limit:
        forget, retain = max(1, forget // 2), max(1, retain // 2)
        smaller = replace(method, forget_batch=forget, retain_batch=retain)
        now = replace(study, experiment=replace(study.experiment, method=smaller))
    return None if now is study else (f"method.forget_batch={forget} method.retain_batch={retain}", now)


def _checkpointing(study: Study, limit: int) -> Changed | None:
    model = study.experiment.model
    if not isinstance(model, Pretrained) or model.gradient_checkpointing:
        return None
    changed = replace(study.experiment, model=replace(model, gradient_checkpointing=True))
    return "model.gradient_checkpointing=true", replace(study, experiment=changed)


def _bfloat16(study: Study, limit: int) -> Changed | None:
    model = study.experiment.model
    if not isinstance(model, Pretrained) or model.dtype != "float32":
        return None
    changed = replace(study.experiment, model=replace(model, dtype="bfloat16"))
    return "model.dtype=bfloat16", replace(study, experiment=changed)


def _adapter(study: Study, limit: int) -> Changed | None:
    method = study.experiment.method
    assert isinstance(method, LossMethod)
    if method.adapter.rank or method.mask.kind != "none":
        return None
    changed = replace(method, adapter=replace(method.adapter, rank=RANK))
    return f"method.adapter.rank={RANK}", replace(study, experiment=replace(study.experiment, method=changed))


def _elsewhere(study: Study, stage: str) -> str:
    """For a stage that has no estimate."""
    said = []
    if stage in ("predict", "observe", "evaluate"):
        said.append(f"evaluate.batch_size={max(1, study.experiment.evaluate.batch_size // 4)}")
    if changed := _bfloat16(study, 0):
        said.append(changed[0])
    return f"less memory with {' '.join(said)}" if said else "a smaller model or request, or more memory"


def _total(study: Study, stage: str) -> int:
    needed = footprint(study, stage)
    assert needed is not None
    return needed.total
