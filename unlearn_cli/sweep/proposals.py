"""What a search asks Optuna: a study, and the fields of a command as its distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from hydra.core.override_parser.types import IntervalSweep, Override

from unlearn_cli.errors import ConfigError

Direction = Literal["minimize", "maximize"]

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution


def study_of(directions: Mapping[str, Direction], seed: int) -> Study:
    """A new study that proposes by TPE; `directions` are minimize or maximize, by metric."""
    try:
        import optuna
    except ImportError:
        raise ConfigError(["unlearn search needs Optuna: pip install 'unlearn-cli[search]'"]) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed)
    return optuna.create_study(sampler=sampler, directions=[*directions.values()])


def distribution(item: Override) -> BaseDistribution:
    """Hydra's way of writing several values as Optuna's: an interval is continuous, or whole as int(interval(...))."""
    from optuna import distributions

    value = item.value()
    if not isinstance(value, IntervalSweep):
        return distributions.CategoricalDistribution(list(item.sweep_string_iterator()))
    low, high, log = value.start or 0, value.end or 0, "log" in value.tags
    try:
        if isinstance(low, int) and isinstance(high, int):
            return distributions.IntDistribution(low, high, log=log)
        return distributions.FloatDistribution(float(low), float(high), log=log)
    except ValueError as error:
        raise ConfigError([f"{item.input_line}: {error}"]) from None
