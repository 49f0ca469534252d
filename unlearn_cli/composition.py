"""Compose configurations without running anything: which groups, options and values there are."""

from __future__ import annotations

import pickle
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.default_element import GroupDefault
from hydra.core.object_type import ObjectType
from hydra.core.utils import setup_globals
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn_cli.command import Command
from unlearn_cli.config import unknown
from unlearn_cli.errors import ConfigError

VERSION_BASE = "1.3"
LIST_GROUPS = ("metric",)  # groups of which several options may be chosen
OPTIONAL_GROUPS = ("experiment",)


def register_resolvers() -> None:
    """Make known what conf/hydra/default.yaml names its folders with."""
    OmegaConf.register_new_resolver("user_folder", lambda path: str(Path(path).expanduser()), replace=True)
    OmegaConf.register_new_resolver("unique", lambda: secrets.token_hex(3), use_cache=True, replace=True)


class Composer:
    """The configuration folders of a command, and what can be composed from them."""

    def __init__(self, command: Command, searchpath: Sequence[str] = ()) -> None:
        self.loader = loader_of(command)
        self.name = command.name
        self.searchpath = list(searchpath)
        self._composed: dict[tuple[str, ...], bytes] = {}

    @cached_property
    def groups(self) -> list[str]:
        """Every group, parts of a component such as method/mask included."""
        top = self._entries("", ObjectType.GROUP)
        return [*top, *(f"{group}/{part}" for group in top for part in self._entries(group, ObjectType.GROUP))]

    @cached_property
    def chosen_groups(self) -> set[str]:
        """Groups of which the primary configuration chooses an option; others are added with +."""
        with self._telling():
            primary = self.loader.repository.load_config(self.name)
        items = (primary.defaults_list if primary else None) or []
        return {item.group for item in items if isinstance(item, GroupDefault) and item.group}

    @property
    def required_groups(self) -> set[str]:
        """Groups that cannot be null."""
        return self.chosen_groups - set(OPTIONAL_GROUPS)

    def options(self, group: str) -> list[str]:
        """What can be chosen in a group; a leading underscore marks what options include and nobody chooses."""
        return sorted(name for name in self._entries(group, ObjectType.CONFIG) if not name.startswith("_"))

    def has_option(self, group: str, option: str) -> bool:
        """Whether an option exists, also one in a subfolder of the group."""
        folder, _, name = option.rpartition("/")
        return name in self.options(f"{group}/{folder}".rstrip("/"))

    def compose(self, selections: Sequence[str]) -> DictConfig:
        """Compose the options that `selections` pick; raises a ConfigError that names what is at fault."""
        key = tuple(selections)
        if key not in self._composed:
            with self._telling():
                config = self.loader.load_configuration(
                    self.name, [*self.searchpath, *key], run_mode=RunMode.RUN, validate_sweep_overrides=False
                )
                self._composed[key] = pickle.dumps(config)
        made: DictConfig = pickle.loads(self._composed[key])  # several times faster than a deep copy
        return made

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn what reading and composing files can raise into a ConfigError."""
        try:
            yield
        except MissingConfigException as error:
            group, _, name = (error.missing_cfg_file or "").rpartition("/")
            options = self.options(group) if group else []
            raise ConfigError([unknown(first_line(error).rstrip("."), name, options, "options")]) from None
        except (HydraException, OmegaConfBaseException, yaml.YAMLError, OSError, ValueError) as error:
            raise ConfigError([_told(error)]) from None

    def _entries(self, group: str, kind: ObjectType) -> list[str]:
        with self._telling():
            return self.loader.get_group_options(group, kind, self.name, self.searchpath)


def loader_of(command: Command) -> ConfigLoaderImpl:
    """Hydra's loader for a command: that of the last one, if its folders were the same and no file in them changed."""
    version.setbase(VERSION_BASE)
    setup_globals()
    register_resolvers()
    if searched(command):
        return _loader(command.conf, command.extra)  # in folders that only Hydra knows, a file may have changed
    folders = [Path(command.conf), *([command.extra] if command.extra else [])]
    found = [(path, path.stat()) for folder in folders for path in folder.rglob("*.yaml")]
    stamps = frozenset((path, stat.st_mtime_ns, stat.st_size) for path, stat in found)
    return _kept_loader(command.conf, command.extra, stamps)


def searched(command: Command) -> list[str]:
    """The words that name more folders."""
    return [word for word in command.overrides if word.lstrip("+").startswith("hydra.searchpath=")]


@lru_cache(maxsize=1)
def _kept_loader(conf: str, extra: Path | None, stamps: frozenset[Any]) -> ConfigLoaderImpl:
    return _loader(conf, extra)


def _loader(conf: str, extra: Path | None) -> ConfigLoaderImpl:
    """Over the folders of a command; it reads each file once."""
    path = create_config_search_path(conf)
    if extra:
        schema = SearchPathQuery(provider="schema")
        path.prepend(provider="command-line", path=f"file://{extra}", anchor=schema)
    loader = ConfigLoaderImpl(path)
    loader.repository = _Files(loader.repository)  # type: ignore[assignment]  # of the same interface
    return loader


class _Files(CachingConfigRepository):  # type: ignore[misc]
    """Reads each file once in a command; Hydra's own cache does so in each composition, of which a sweep has hundreds.

    Every composition gets copies, since it changes what it merges.
    """

    def __init__(self, delegate: IConfigRepository) -> None:
        super().__init__(delegate)
        self._read: dict[str, bytes] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> _Files:
        return self  # Hydra copies the repository for each composition

    def load_config(self, config_path: str) -> ConfigResult | None:
        """What a file says; None if there is no such file."""
        if config_path not in self._read:
            self._read[config_path] = pickle.dumps(self.delegate.load_config(config_path))
        found: ConfigResult | None = pickle.loads(self._read[config_path])
        return found


def choices(config: DictConfig) -> dict[str, str]:
    """The chosen option of each group, for people and folder names; needs the `hydra` part of a configuration."""
    chosen: dict[str, Any] = dict(config.hydra.runtime.choices)
    return {group: _joined(option) for group, option in chosen.items() if option and not group.startswith("hydra")}


def first_line(error: BaseException) -> str:
    """The sentence of a Hydra or OmegaConf error, without the advice below it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _joined(option: Any) -> str:
    return option if isinstance(option, str) else ",".join(map(str, option))


def _told(error: Exception) -> str:
    """One line for what composing raised."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: {error.problem}"
    cause = error.__cause__
    return first_line(error) + (f": {first_line(cause)}" if cause else "")
