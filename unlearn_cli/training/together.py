"""Where a stage is made: in this process, or, if it trains on several devices, in one process for each."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn_cli.study import Study

if TYPE_CHECKING:
    from unlearn_cli.builders import Watch

Build = Callable[..., dict[str, Any]]  # of a study, what it is made from, a watch, and the artifact's folder


def together(stage: str, trains: Callable[[Study], bool]) -> Callable[[Build], Build]:
    """For a builder: carry it out in every rank of a study that has several and trains in this stage (launch.py)."""

    def on_all_devices(build: Build) -> Build:
        @wraps(build)
        def made(study: Study, *arguments: Any) -> dict[str, Any]:
            if study.numerics.ranks == 1 or not trains(study):
                return build(study, *arguments)
            from unlearn_cli.training.launch import carry_out
            from unlearn_cli.training.messages import Order

            *given, watch, folder = arguments
            order = Order(stage, build.__name__, study.experiment, tuple(given), str(folder), watch.progress)
            extra = carry_out(order, study.numerics)
            _tell(watch, stage, folder)
            return extra

        return made

    return on_all_devices


def _tell(watch: Watch, stage: str, folder: Path) -> None:
    """Log the curves that the ranks left."""
    from unlearn_cli.builders import curves_of

    logger = watch.logger() if watch.logger else None
    for row in curves_of(folder) if logger else []:
        logger.log_metrics({f"{stage}/{name}": value for name, value in row.items()})  # type: ignore[union-attr]
