"""Logging a run to W&B, offline unless asked otherwise, or to nothing.

W&B is a view of what the run folder has anyway: nothing that goes wrong with it fails a run, prints on stdout or asks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unlearn_cli.component import component

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger as LightningLogger
    from wandb import Run

STAGES = ("train", "gold", "corrupt", "prepare", "edit")  # each with a step axis of its own
INIT_SECONDS = 20.0  # to reach the server, or go on offline
FINISH_SECONDS = 60.0  # to upload what is left; it stays on disk for `wandb sync`

log = logging.getLogger(__name__)

_warned: set[str] = set()  # what was told in this process already


class Tracker:
    """Where a run's curves and metrics go; this one keeps nothing."""

    def lightning(self) -> LightningLogger | None:
        """A logger for a Lightning Trainer, whose metrics are named `<stage>/<name>`, `<stage>/step` among them."""
        return None

    def curve(self, stage: str, rows: Iterable[Mapping[str, float]]) -> None:
        """Log a curve that was recorded elsewhere: one row per step, with its number as `step`."""

    def metrics(self, values: Mapping[str, float]) -> None:
        """Set the final numbers of the run."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show a table."""

    def image(self, name: str, path: Path) -> None:
        """Show a picture from a file, which is copied."""

    def close(self, status: str) -> None:
        """End the run, as failed unless `status` is "ok"; always to be called."""


@component
class Logger:
    """Where curves and final metrics go besides the run folder, which always has both."""

    kind: Literal["wandb", "none"] = "none"
    mode: Literal["offline", "online", "disabled"] = "offline"
    project: str = "unlearn"
    entity: str | None = None
    tags: list[str] | None = None  # besides world, edit, model and method

    @property
    def tracks(self) -> bool:
        """Whether anything is to be kept."""
        return self.kind != "none" and self.mode != "disabled"

    def open(
        self,
        config: Mapping[str, Any],
        run_dir: Path,
        run_id: str,
        group: str | None,
        tags: Sequence[str],
        job_type: str = "run",
    ) -> Tracker:
        """Begin a run that is named like its folder and keeps its files in `<run_dir>/wandb`; never raises.

        Under a W&B agent the run is the one that the agent asked for: its id, project and entity count.
        """
        if not self.tracks:
            return Tracker()
        described = {
            "config": dict(config),
            "dir": str(run_dir),
            "id": run_id,
            "name": run_dir.name,
            "group": group,
            "tags": list(dict.fromkeys([*tags, *(self.tags or [])])),
            "job_type": job_type,
            "project": self.project,
            "entity": self.entity,
        }
        try:
            return WandbTracker(self._start(described))
        except Exception as error:
            log.warning("W&B cannot be started, so this run is not tracked: %s", _sentence(error))
            return Tracker()

    def _start(self, described: Mapping[str, Any]) -> Run:
        """Online if that is asked for and possible, else offline."""
        if self.mode == "online":
            try:
                return _online(described)
            except Exception as error:
                _warn_once(f"W&B is tracked offline, to be sent with `wandb sync`: {_sentence(error)}")
                let_go()  # else the id stays taken
        return _init("offline", described)


class WandbTracker(Tracker):
    """A W&B run. After a first failure it is left alone: each further call might wait for a timeout."""

    def __init__(self, run: Run) -> None:
        self._run: Run = run
        self._broken = False
        self._try(self._define_axes)

    def lightning(self) -> LightningLogger | None:
        """A WandbLogger that writes to this run and forgives as it does."""
        from lightning.pytorch.loggers import WandbLogger
        from lightning.pytorch.utilities import rank_zero_only

        send = self._send

        class Forgiving(WandbLogger):
            @rank_zero_only
            def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
                send(metrics)

        return Forgiving(experiment=self._run)

    def curve(self, stage: str, rows: Iterable[Mapping[str, float]]) -> None:
        for row in rows:
            self._send({f"{stage}/{name}": value for name, value in row.items()})

    def metrics(self, values: Mapping[str, float]) -> None:
        self._try(lambda: self._run.summary.update(dict(values)))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        data = [list(row) for row in rows]
        # Cells that are missing are no type of their own.
        self._try(lambda: self._run.log({name: wandb.Table(list(columns), data, allow_mixed_types=True)}))

    def image(self, name: str, path: Path) -> None:
        import wandb

        self._try(lambda: self._run.log({name: wandb.Image(str(path))}))

    def close(self, status: str) -> None:
        self._try(lambda: self._run.finish(exit_code=0 if status == "ok" else 1))

    def _define_axes(self) -> None:
        for stage in STAGES:
            self._run.define_metric(f"{stage}/step", hidden=True)
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def _send(self, row: Mapping[str, float]) -> None:
        self._try(lambda: self._run.log(dict(row)))

    def _try(self, action: Callable[[], Any]) -> None:
        if self._broken:
            return
        try:
            action()
        except Exception as error:
            self._broken = True
            let_go()
            log.warning("W&B failed and is left alone from here on; the run is not affected: %s", _sentence(error))


def _online(described: Mapping[str, Any]) -> Run:
    """Log in without a prompt, then begin; raises if there is no key or no network."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))  # else the login tells who it is
    if not wandb.login(prompt=False, verify=False):
        raise PermissionError("no API key is configured; `wandb login` stores one")
    return _init("online", described)


def _init(mode: Literal["online", "offline"], described: Mapping[str, Any]) -> Run:
    import wandb

    settings = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
        reinit="create_new",  # a run that the caller's own program has open is left alone
        x_disable_stats=True,
        disable_git=True,  # result.json has the commit
        disable_code=True,
    )
    return wandb.init(mode=mode, settings=settings, **described)


def let_go() -> None:
    """Let go of W&B's service process, which would be waited for, or complained about, when the interpreter ends."""
    import wandb

    if wandb.run is None:  # the caller's own program may be using it
        with suppress(Exception):
            wandb.teardown()


def _warn_once(message: str) -> None:
    """Warn; in later runs of this process the same is only a note."""
    log.log(logging.INFO if message in _warned else logging.WARNING, "%s", message)
    _warned.add(message)


def _sentence(error: Exception) -> str:
    """First line of the message, or what kind of error it is."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
