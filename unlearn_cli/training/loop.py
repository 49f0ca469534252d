"""The one Lightning loop: takes steps of a task until its budget or its stop criterion, logging as it goes.

A `Task` says what a step's loss is and when to stop; base, gold and every loss method are tasks. Batches are a pure
function of the step, so the loop's data is just the step numbers.
"""

from __future__ import annotations

import logging
import math
import signal
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import lightning
import torch
from torch import Tensor

from unlearn_cli.errors import Interrupted, UnlearnError
from unlearn_cli.machine import Numerics, require
from unlearn_cli.models.spread import spread
from unlearn_cli.training.placement import placed
from unlearn_cli.training.progress import Progress
from unlearn_cli.training.ranks import ALONE, Crew
from unlearn_cli.training.resume import Resume, undisturbed
from unlearn_cli.training.sharding import gather_weights, load_sharded, shard, sharded_state

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger as LightningLogger

log = logging.getLogger(__name__)

Row = dict[str, float]


@dataclass
class Runtime:
    """Where a stage runs, and who watches."""

    stage: str  # names curves and progress: "train", "gold", "edit"
    numerics: Numerics
    progress: bool = False
    logger: LightningLogger | None = None
    curves: list[Row] = field(default_factory=list)  # one row per step: losses, learning rate, checks
    resume: Resume | None = None  # where loops leave their states, and find those of an attempt that was stopped
    crew: Crew = ALONE  # the processes that train together

    @property
    def device(self) -> torch.device:
        """Of ids, labels and logits."""
        return torch.device(self.numerics.places[0])


class Task(ABC):
    """What a loop optimises."""

    max_steps: int
    max_grad_norm: float | None
    resumable: bool = True  # whether all that a step needs follows from its number, the model and `state`

    @abstractmethod
    def optimizers(self, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
        """Make the optimisers; each group's `lr` is its peak."""

    @abstractmethod
    def rate(self, step: int) -> float:
        """Factor on every learning rate at `step` (from 0)."""

    @abstractmethod
    def losses(self, model: torch.nn.Module, step: int) -> Mapping[str, Tensor]:
        """Return the terms of this step's loss on the batch of all ranks; `loss` is what to minimise.

        Gradients flow through the rows that this rank reads (ranks.py).
        """

    def after(self, model: torch.nn.Module, step: int, row: Row) -> bool:
        """Look at the model after a step, add readings to its row, and say whether to stop."""
        return False

    def state(self) -> dict[str, int]:
        """What the task has counted so far; all else that it needs must follow from the step."""
        return {}

    def restore(self, state: Mapping[str, int]) -> None:
        """Take up the counts of an attempt that was stopped."""
        assert not state, "a task that counts overrides this"


def run_task(task: Task, model: torch.nn.Module, runtime: Runtime) -> int:
    """Optimise `model` in place and return the number of steps taken.

    It goes on where an attempt that was stopped left its state, to the same bits. Raises UnlearnError if the loss stops
    being finite.
    """
    require(runtime.numerics)
    numerics = runtime.numerics
    torch.set_num_threads(numerics.threads)
    if numerics.spread:
        spread(model, numerics.places)
    loop = _Loop(task, model, runtime)
    with _quiet(), products_in(numerics):
        trainer = lightning.Trainer(
            **placed(numerics, runtime.crew),
            precision=precision_of(numerics),
            deterministic="warn" if numerics.accelerator == "cuda" else None,
            max_epochs=1,
            logger=runtime.logger or False,
            callbacks=[Progress(runtime.stage, task.max_steps, runtime.progress and not runtime.crew.rank)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        runtime.crew.stepping.set()
        try:
            trainer.fit(loop, train_dataloaders=range(loop.taken, task.max_steps))
        except (Interrupted, KeyboardInterrupt):
            loop.save()
            raise
        finally:
            runtime.crew.stepping.clear()
    if loop.sharded is not None:
        gather_weights(loop.sharded, model)
    spread(model, numerics.places).eval()
    return loop.taken


class _Loop(lightning.LightningModule):
    """Manual optimisation, since Muon and AdamW step together."""

    def __init__(self, task: Task, model: torch.nn.Module, runtime: Runtime) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.task, self.model, self.runtime = task, model, runtime
        self.slot = runtime.resume.slot() if runtime.resume and task.resumable else None
        self.earlier = self.slot.load() if self.slot else None
        self.taken = self.earlier["step"] if self.earlier else 0
        self.used: list[torch.optim.Optimizer] = []
        self.crew = runtime.crew
        self.sharded: torch.nn.Module | None = None  # what is trained in the model's place, if no rank has all of it
        self.offset = len(runtime.curves)  # rows of loops before this one

    def configure_model(self) -> None:
        if self.crew.size > 1 and self.runtime.numerics.strategy == "fsdp" and self.sharded is None:
            self.model = self.sharded = shard(self.model.cpu(), self.device_mesh, self.runtime.device)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        made = self.task.optimizers(self.model)
        for group in (group for optimizer in made for group in optimizer.param_groups):
            group["peak"] = group["lr"]
        return made

    def on_train_start(self) -> None:
        self.model.train()
        self.used = list(self.trainer.strategy.optimizers)
        if self.earlier is not None:
            self._go_on(self.earlier)

    def _go_on(self, earlier: dict[str, Any]) -> None:
        """Take up the state of an attempt that was stopped; its curves are told again."""
        if self.sharded is not None:
            load_sharded(self.sharded, self.used, earlier)
        else:
            self.model.load_state_dict(earlier["model"])
            for optimizer, state in zip(self.used, earlier["optimizers"], strict=True):
                optimizer.load_state_dict(state)
        torch.set_rng_state(earlier["random"])
        self.task.restore(earlier["task"])
        log.info("%s: goes on at step %d", self.runtime.stage, self.taken)
        for row in earlier["curves"]:
            self._record(row)

    def save(self) -> None:
        """Keep the state between two steps; all ranks call it, the first one writes."""
        if self.slot is None or not self.used:
            return
        if self.sharded is not None:
            weights = sharded_state(self.sharded, self.used)
        elif self.crew.rank:
            return
        else:
            states = [optimizer.state_dict() for optimizer in self.used]
            weights = {"model": self.model.state_dict(), "optimizers": states}
        if self.crew.rank:
            return
        self.slot.save(
            {
                "step": self.taken,
                **weights,
                "random": torch.get_rng_state(),
                "task": self.task.state(),
                "curves": self.runtime.curves[self.offset :],
            }
        )

    def training_step(self, step: int) -> None:
        with undisturbed():
            self._step(step)
            due = self.slot is not None and self.slot.due
            stop, due, leave = self.crew.agree(self.trainer.should_stop, due, self.crew.leaving.is_set())
            self.trainer.should_stop = stop
            if leave and not stop:
                raise Interrupted(signal.SIGTERM)
            if due and not stop:
                self.save()

    def _step(self, step: int) -> None:
        terms = self.task.losses(self.model, step)
        row = {"step": float(step + 1)} | {name: float(value.detach()) for name, value in terms.items()}
        if not math.isfinite(row["loss"]):
            raise UnlearnError(
                f"{self.runtime.stage}: the loss is {row['loss']} at step {step + 1}; lower the learning rate"
            )
        self._descend(terms["loss"], self.task.rate(step))
        self.taken = step + 1
        self.model.eval()
        stop = self.task.after(self.model, step, row)
        self.model.train()
        self._record(row)
        if stop:
            self.trainer.should_stop = True

    def _descend(self, loss: Tensor, rate: float) -> None:
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for optimizer in optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
        self.manual_backward(loss)
        if self.task.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.task.max_grad_norm)
        for optimizer in optimizers:
            optimizer.step()

    def _record(self, row: Row) -> None:
        self.runtime.curves.append(row)
        for logger in self.loggers:
            named = {f"{self.runtime.stage}/{name}": value for name, value in row.items()}
            logger.log_metrics(named)


def precision_of(numerics: Numerics) -> Literal["bf16-mixed", "32-true"]:
    """What Lightning is to train in: autocast in bf16 on an accelerator; a CPU has `products_in` for that."""
    return "bf16-mixed" if numerics.precision == "bf16" and numerics.accelerator != "cpu" else "32-true"


@contextmanager
def products_in(numerics: Numerics) -> Iterator[None]:
    """Multiply float32 matrices in bfloat16 on a CPU that has the hardware; tensors stay float32."""
    if numerics.accelerator != "cpu" or numerics.precision != "bf16":
        yield
        return
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's notes on hardware and data loaders do not concern a reader of our log."""
    chatter: list[Any] = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in chatter]
    for logger in chatter:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            yield
        finally:
            for logger, level in zip(chatter, levels, strict=True):
                logger.setLevel(level)
