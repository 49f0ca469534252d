"""`result.json`, the truth about a run: its status, every number and where they come from (docs/results.md)."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unlearn_cli.errors import EXIT_FAILED, EXIT_OK, UnlearnError
from unlearn_cli.evaluation import MetricValue, ProbeSet, Reading
from unlearn_cli.result_schema import SCHEMA_VERSION, validate

if TYPE_CHECKING:
    from unlearn_cli.cache import Artifact

INDENT = 1


@dataclass
class Result:
    """What a run chose, did and found."""

    choices: dict[str, str]  # group -> option
    seed: int
    run_dir: Path  # the folder of `result.json`, therefore not written in it
    replica: int = 0
    name: str | None = None
    status: Literal["ok", "failed", "interrupted"] = "failed"  # until it is known to be better
    request: dict[str, Any] = field(default_factory=dict)  # the resolved edit in short; request.json has it in full
    notes: list[str] = field(default_factory=list)  # sentences that a reader of the numbers must know
    metrics: dict[str, Any] = field(default_factory=dict)  # key -> `entry`
    stages: dict[str, Any] = field(default_factory=dict)  # train, gold, prepare, edit, evaluate, as far as the run got
    error: dict[str, Any] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    stage: str | None = field(default=None, repr=False, compare=False)  # being carried out now, for `error`
    failed_with: int = field(default=EXIT_FAILED, repr=False, compare=False)  # exit status unless all is well

    @property
    def exit_status(self) -> int:
        """0 done, 1 failed, 130 or 143 interrupted."""
        return EXIT_OK if self.status == "ok" else self.failed_with

    def fail(self, error: BaseException, exit_status: int = EXIT_FAILED) -> None:
        """Record what ended the run."""
        self.status, self.failed_with = "failed", exit_status
        self.error = {"stage": self.stage, "type": type(error).__name__, "message": str(error)}

    def interrupt(self, exit_status: int) -> None:
        """Record that a signal ended the run; `exit_status` is 128 + its number."""
        self.status, self.failed_with = "interrupted", exit_status
        name = signal.Signals(exit_status - 128).name
        self.error = {"stage": self.stage, "type": "Interrupted", "message": name}

    def add_stage(self, name: str, artifact: Artifact, **more: Any) -> None:
        """Note a stage's artifact, and `more` about it."""
        self.stages[name] = self._noted(artifact) | more

    def add_gold(self, artifact: Artifact, member: int, cached: bool) -> None:
        """Note one gold model; the stage as a whole took what all of them took."""
        members = self.stages.get("gold", {}).get("members", [])
        members = [*members, {"member": member, **self._noted(artifact), "cached": cached}]
        members.sort(key=lambda item: item["member"])
        peaks = [item["peak_memory_bytes"] for item in members if item["peak_memory_bytes"] is not None]
        self.stages["gold"] = {
            "digest": members[0]["digest"],
            "cached": all(item["cached"] for item in members),
            "seconds": sum(item["seconds"] for item in members),
            "peak_memory_bytes": max(peaks, default=None),
            "path": members[0]["path"],
            "members": members,
        }

    @staticmethod
    def _noted(artifact: Artifact) -> dict[str, Any]:
        return {
            "digest": artifact.digest,
            "cached": artifact.cached,
            "seconds": artifact.seconds,
            "peak_memory_bytes": artifact.peak_memory_bytes,
            "path": str(artifact.path),
        }

    def flat(self) -> dict[str, float]:
        """Every known value by its key, with `/base` and `/gold` behind it for theirs: for trackers."""
        values = {}
        for key, item in self.metrics.items():
            for suffix, reading in (("", item), ("/base", item["base"]), ("/gold", item["gold"])):
                if reading and reading["value"] is not None:
                    values[key + suffix] = reading["value"]
        return values

    def table(self, width: int | None = None) -> str:
        """The result for people, as plain text or, on a terminal, in colour."""
        from unlearn_cli.report.terminal import table

        return table(self, width)

    def to_dict(self) -> dict[str, Any]:
        """The content of `result.json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "status": self.status,
            "exit_status": self.exit_status,
            "choices": self.choices,
            "seed": self.seed,
            "replica": self.replica,
            "name": self.name,
            "request": self.request,
            "notes": self.notes,
            "metrics": self.metrics,
            "stages": self.stages,
            "error": self.error,
            "provenance": self.provenance,
        }

    def write(self, path: Path) -> None:
        """Put it at `path` whole or not at all; ValueError for NaN and infinities."""
        text = json.dumps(self.to_dict(), indent=INDENT, allow_nan=False, ensure_ascii=False)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with draft.open("w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(path.parent)

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read a `result.json`; UnlearnError if it is missing, damaged or of another schema version."""
        stored = _parsed(path)
        problems = validate(stored)
        if problems:
            raise UnlearnError(f"{path} is not a sound result: {_first(problems)}")
        del stored["schema_version"]
        code = stored.pop("exit_status")
        return cls(**stored, run_dir=path.absolute().parent, failed_with=code or EXIT_FAILED)


def entry(value: MetricValue) -> dict[str, Any]:
    """A metric as stored. A number that is not finite makes it `failed`, and is not stored, whoever computed it."""
    readings = {"value": value.edited, "base": value.base, "gold": value.gold}
    broken = [name for name, reading in readings.items() if reading and not _finite(reading)]
    status, reason = value.status, value.reason
    if broken:
        status, reason = "failed", f"not a finite number: {', '.join(broken)}"
    if status != "ok":
        readings = dict.fromkeys(readings)
    edited, base, gold = ({} if r is None else _plain(r) for r in readings.values())
    return {
        "value": edited.get("value"),
        "n": edited.get("n"),
        "ci": edited.get("ci"),
        "unit": value.unit,
        "direction": value.direction,
        "status": status,
        "reason": reason,
        "base": base or None,
        "gold": gold or None,
    }


def write_items(metrics: Mapping[str, MetricValue], probes: ProbeSet, path: Path) -> None:
    """Write every probe's value of every metric that has one, a row each, as Parquet.

    Columns: metric, split, fact, template, subject, role, value.
    """
    import pyarrow
    from pyarrow import parquet

    text, name = pyarrow.string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    names = dict.fromkeys(("metric", "split", "role"), name)
    numbers = dict.fromkeys(("fact", "template", "subject"), pyarrow.int64())
    schema = pyarrow.schema({**names, **numbers, "value": pyarrow.float64()})
    plain = pyarrow.schema([field.with_type(text) if field.type == name else field for field in schema])
    blocks = [block for key, value in metrics.items() for block in _item_blocks(key, value, probes)]
    table = pyarrow.concat_tables([plain.empty_table(), *(pyarrow.table(block, plain) for block in blocks)])
    parquet.write_table(table.cast(schema), path, compression="zstd")


def _item_blocks(key: str, metric: MetricValue, probes: ProbeSet) -> Iterator[dict[str, Any]]:
    """Columns of one metric in one split, for each role."""
    import pyarrow

    if metric.rows is None:
        return
    asked = {"fact": probes.fact, "template": probes.template, "subject": probes.subject}
    numbers = {column: values[metric.rows] for column, values in asked.items()}
    name, split = _parted(key, probes)
    for role, values in metric.items.items():
        texts = {"metric": name, "split": split, "role": role}
        scalars = {column: pyarrow.scalar(text, pyarrow.string()) for column, text in texts.items()}
        repeated = {column: pyarrow.repeat(scalar, len(values)) for column, scalar in scalars.items()}
        yield repeated | numbers | {"value": values}


def _parted(key: str, probes: ProbeSet) -> tuple[str, str | None]:
    """Split `fact_accuracy/unrelated/seen` into metric and split; a key without a split is all metric."""
    places = [i for i, character in enumerate(key) if character == "/" and key[i + 1 :] in probes.splits]
    return (key[: places[0]], key[places[0] + 1 :]) if places else (key, None)


def _finite(reading: Reading) -> bool:
    return all(map(math.isfinite, (reading.value, *(reading.ci or ()))))


def _plain(reading: Reading) -> dict[str, Any]:
    """In Python's own numbers, whatever array they came from."""
    ci = None if reading.ci is None else [float(end) for end in reading.ci]
    return {"value": float(reading.value), "ci": ci, "n": int(reading.n)}


def _parsed(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnlearnError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise UnlearnError(f"{path} cannot be read as JSON: {error}") from None
    version = stored.get("schema_version") if isinstance(stored, dict) else None
    if not isinstance(version, int):
        raise UnlearnError(f"{path} is no result: it has no schema_version")
    if version != SCHEMA_VERSION:
        raise UnlearnError(f"{path} has schema version {version}; this version of unlearn reads {SCHEMA_VERSION}")
    assert isinstance(stored, dict)
    return stored


def _first(problems: list[str]) -> str:
    more = len(problems) - 1
    return problems[0] + (f" (and {more} more)" if more else "")


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
