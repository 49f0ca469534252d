"""One experiment as typed values: its components, its settings, and the contradictions between them.

`Experiment.from_config` makes one from a composed configuration; from Python the dataclass is called directly.
Either way a wrong experiment cannot be constructed, and nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_type_hints

import pydantic
from pydantic import Field, InstanceOf

from unlearn_cli.analysis.table_spec import table_spec
from unlearn_cli.component import Count, Fraction, Natural, Positive, component
from unlearn_cli.config import allowed, build, build_dataclass, describe, shown, unknown
from unlearn_cli.contradictions import contradictions
from unlearn_cli.edits.base import Edit
from unlearn_cli.errors import ConfigError
from unlearn_cli.evaluation import Bootstrap
from unlearn_cli.methods.base import Method
from unlearn_cli.metrics.base import Metric
from unlearn_cli.models.base import Model
from unlearn_cli.sweep.slurm import Slurm
from unlearn_cli.tracking import Logger
from unlearn_cli.training.recipe import Recipe
from unlearn_cli.worlds.base import World
from unlearn_cli.worlds.built import Built

Folder = Annotated[str, Field(min_length=1)]


@component
class Trainer:
    """The machine's side of a run."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: Count = 1  # of each node; a stage that trains has one process for each
    num_nodes: Count = 1  # of a SLURM job
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"  # how several devices share a model; auto: ddp
    threads: Count = 1  # CPU threads of each stage: they change the last bits of a gradient, so they are pinned
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    side_by_side: bool = True  # on a CPU, train gold in a second process while the base trains
    progress: bool = True  # progress bars, on stderr when it is a terminal
    checkpoint_seconds: Positive = 60.0  # at least this between two saves of a loop's state, from which it can go on


@component
class Paths:
    """Where things are kept. Never part of a digest."""

    cache: Folder = "~/.cache/unlearn"
    runs: Folder = "./runs"
    link: Literal["symlink", "copy"] = "symlink"  # how a run folder holds base, gold and edited


@component
class Retain:
    """The retain pool: the facts that a method may use to protect what must not change."""

    pool: Fraction = 0.2  # share of the trained facts that were not requested
    requested_subjects: bool = False  # whether other facts of the requested subjects may be in it


@component
class Gold:
    """The models retrained without the requested facts."""

    n: Natural = 1  # 0: no gold; two golds differ as much as many methods do, so tables use 3 or more
    path: Folder | None = None  # a checkpoint that never saw the request, in the place of trained ones

    def source(self) -> dict[str, str]:
        """What the checkpoint holds, if one is named."""
        if self.path is None:
            return {}
        from unlearn_cli.models.folder import digest, found

        return {"path": digest(found(self.path, field="gold.path"))}


@component
class Evaluate:
    """How models are asked and intervals drawn."""

    requested: Count = 1000  # requested facts asked, in every phrasing, drawn when there are more
    facts: Count = 300  # facts asked in each part (seen, unseen) of a must-not-change split, drawn when there are more
    templates: Count = 2  # trained templates in which each is asked
    batch_size: Count = 512  # probes in one forward pass
    bootstrap_samples: Count = 1000
    level: Positive = 0.95  # confidence level of intervals


@component
class Attack:
    """How much attacks may spend."""

    budget: Literal["small", "paper"] = "small"  # small: seconds on a small model; paper: what publications spend


@component
class SweepSettings:
    """How the runs of a sweep are carried out on one machine; nothing that a run's numbers depend on."""

    parallel: Literal["auto"] | Count = "auto"  # runs at a time; auto: one for each core on a CPU, else one


@component
class Experiment:
    """Everything that one run depends on."""

    world: InstanceOf[World]
    edit: InstanceOf[Edit]
    model: InstanceOf[Model]
    method: InstanceOf[Method]
    train: InstanceOf[Recipe]
    metric: Mapping[str, InstanceOf[Metric]]
    logger: InstanceOf[Logger] = Field(default_factory=Logger)
    trainer: Trainer = Field(default_factory=Trainer)
    paths: Paths = Field(default_factory=Paths)
    retain: Retain = Field(default_factory=Retain)
    gold: Gold = Field(default_factory=Gold)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    attack: Attack = Field(default_factory=Attack)
    seed: Natural = 0
    replica: Natural = 0  # same world, request and probes; models trained and edited from other streams
    name: str | None = None  # of the experiment; groups runs in W&B
    choices: Mapping[str, str] = Field(default_factory=dict)  # chosen option of each group, for people

    @classmethod
    def from_config(cls, values: Mapping[str, Any], choices: Mapping[str, str] | None = None) -> Experiment:
        """Build from a composed configuration, every problem in one ConfigError."""
        return cls.from_parts(parts(values), choices or {}, Built())

    @classmethod
    def from_parts(cls, made: Mapping[str, Any], choices: Mapping[str, str], built: Built) -> Experiment:
        """The same from what `parts` made."""
        own = {key: part for key, part in made.items() if key not in _OF_COMMANDS}
        experiment = _construct(cls, own | {"choices": dict(choices)})
        experiment.check(built)
        return experiment

    @property
    def golds(self) -> int:
        """How many gold models there are."""
        return 1 if self.gold.path else self.gold.n

    @property
    def bootstrap(self) -> Bootstrap:
        """How intervals are drawn."""
        return Bootstrap(self.evaluate.bootstrap_samples, self.evaluate.level, self.seed)

    def chosen(self, group: str) -> str:
        """Readable name of a group's option: as typed, or the class's name from Python."""
        return self.choices.get(group) or type(getattr(self, group)).__name__.lower()

    def check(self, built: Built | None = None) -> None:
        """Raise a ConfigError with every contradiction between components; builds the world, which is quick."""
        problems = contradictions(self, built or Built())
        if problems:
            raise ConfigError(problems)


def parts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Build the parts of a composed configuration, each checked by itself; every problem in one ConfigError."""
    values, made = dict(values), {}
    dry_run, plugins = values.pop("dry_run", False), values.pop("plugins", [])  # the command line's own
    problems: list[str] = []
    if not isinstance(dry_run, bool):
        problems.append(f"dry_run: {shown(dry_run)} given; expected true or false")
    if not (isinstance(plugins, list) and all(isinstance(item, str) for item in plugins)):
        problems.append(f"plugins: {shown(plugins)} given; expected a list of packages, as in plugins=[my_package]")
        plugins = []
    for key, node in values.items():
        try:
            made[key] = _part(key, node, plugins)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return made


_COMPONENTS: dict[str, type] = {
    "world": World,
    "edit": Edit,
    "model": Model,
    "method": Method,
    "train": Recipe,
    "logger": Logger,
    "slurm": Slurm,
}
_SECTIONS: dict[str, type] = {
    "trainer": Trainer,
    "paths": Paths,
    "retain": Retain,
    "gold": Gold,
    "evaluate": Evaluate,
    "attack": Attack,
    "sweep": SweepSettings,
}
_OF_COMMANDS = ("sweep", "slurm", "table")  # how runs are carried out and shown: no part of one


_OTHERS = ("metric", "seed", "replica", "name", "dry_run", "plugins", "table")


def _part(key: str, node: Any, plugins: list[str]) -> Any:
    """Build one top-level entry of a configuration."""
    if (key in _COMPONENTS or key in _SECTIONS or key in ("metric", "table")) and not isinstance(node, Mapping):
        raise ConfigError([f"{key}: {node} given; expected its fields, as in {key}.<field>=<value>"])
    if key in _COMPONENTS:
        return build(node, key, _COMPONENTS[key], plugins)
    if key in _SECTIONS:
        return build_dataclass(_SECTIONS[key], node, key)
    if key == "table":
        return table_spec(node)
    if key == "metric":
        return {name: build(item, f"metric.{name}", Metric, plugins) for name, item in node.items()}
    if key not in ("seed", "replica", "name"):
        raise ConfigError([unknown(key, key, [*_COMPONENTS, *_SECTIONS, *_OTHERS])])
    return _setting(key, node)


def _setting(key: str, value: Any) -> Any:
    """Check a top-level value by the type of its field."""
    hint = get_type_hints(Experiment, include_extras=True)[key]
    try:
        return pydantic.TypeAdapter(hint, config=pydantic.ConfigDict(strict=True)).validate_python(value)
    except pydantic.ValidationError:
        raise ConfigError([f"{key}: {shown(value)} given; expected {allowed(hint)}"]) from None


def _construct(cls: type[Experiment], made: Mapping[str, Any]) -> Experiment:
    try:
        return cls(**made)
    except pydantic.ValidationError as error:
        hints = get_type_hints(cls, include_extras=True)
        raise ConfigError([describe(item, "", hints).lstrip(".") for item in error.errors()]) from None
