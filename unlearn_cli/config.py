"""From plain values (a composed yaml, a dict) to checked dataclasses, with every problem told at once."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Union

import pydantic

from unlearn_cli.errors import ConfigError

TARGET = "_target_"
OURS = "unlearn_cli"
_PROPOSAL = re.compile(r"(?P<section>([\w-]+\.)*)[\w-]+: no such name; did you mean (?P<name>[\w-]+)\?")


def build(node: Mapping[str, Any], field: str, kind: type, plugins: Iterable[str] = ()) -> Any:
    """Build the component that `node` names by its `_target_`; `field` is its place as the user types it.

    Raises ConfigError with every wrong, unknown or contradictory field. `kind` is the class it must be of.
    """
    if not isinstance(node, Mapping):
        raise ConfigError([f"{field}: {shown(node)} given; expected its fields, as in {field}.<field>=<value>"])
    values = {key: value for key, value in node.items() if key != TARGET}
    if TARGET not in node:
        raise ConfigError([f"{field}.{TARGET}: missing; it names the class to build"])
    return build_dataclass(locate(node[TARGET], field, kind, plugins), values, field)


def locate(target: str, field: str, kind: type, plugins: Iterable[str]) -> type:
    """Import the class `target` names, from this package or one that the user has opted into."""
    module, _, name = str(target).rpartition(".")
    allowed = [OURS, *plugins]
    if module.split(".")[0] not in allowed:
        raise ConfigError(
            [
                f"{field}.{TARGET}: {target} given; allowed packages: {', '.join(allowed)}"
                f" (opt in to another with plugins=[{module.split('.')[0]}])"
            ]
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError([f"{field}.{TARGET}: {target} cannot be imported: {error}"]) from None
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ConfigError([f"{field}.{TARGET}: {target} is no {kind.__name__}"])
    return found


def build_dataclass(cls: type, values: Mapping[str, Any], field: str) -> Any:
    """Construct `cls` from plain values, nested dataclasses included."""
    hints = typing.get_type_hints(cls, include_extras=True)
    known = [item.name for item in dataclasses.fields(cls)]
    problems = [unknown(f"{field}.{key}", key, known) for key in values if key not in known]
    arguments: dict[str, Any] = {}
    for key in known:
        nested = _dataclass_of(hints[key])
        if key in values and nested is not None and isinstance(values[key], Mapping):
            try:
                arguments[key] = build_dataclass(nested, values[key], f"{field}.{key}")
            except ConfigError as error:
                problems += error.problems
        elif key in values:
            arguments[key] = values[key]
    try:
        made = cls(**arguments)
    except pydantic.ValidationError as error:
        problems += [describe(item, field, hints) for item in error.errors()]
    except (TypeError, ValueError) as error:  # a plain dataclass of a user's own
        problems.append(f"{field}: {error}")
    if problems:
        raise ConfigError(problems)
    return made


def describe(error: Mapping[str, Any], field: str, hints: Mapping[str, Any]) -> str:
    """One line for one pydantic error: the field as typed, what was given, what is allowed."""
    place = ".".join([field, *map(str, error["loc"])])
    if error["type"] == "missing":
        return f"{place}: missing; expected {allowed(hints.get(str(error['loc'][0])))}"
    if error["type"] == "value_error":  # raised by the component itself: a contradiction between fields
        return f"{place}: {error['ctx']['error']}"
    head = str(error["loc"][0]) if error["loc"] else ""
    return f"{place}: {shown(error['input'])} given; expected {allowed(hints.get(head))}"


def shown(value: Any) -> str:
    """A value as the user would type it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"'{value}'" if isinstance(value, str) else str(value)


def allowed(hint: Any) -> str:
    """Say in words what a type hint takes: `a number > 0`, `one of none, nll, kl`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bounds = [_bound(piece) for item in arguments[1:] for piece in getattr(item, "metadata", [])]
        return f"{allowed(arguments[0])} {' and '.join(bounds)}".rstrip()
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(allowed(item) for item in arguments)
    if origin in (list, tuple, dict):
        return f"a {origin.__name__} of {allowed(arguments[-1])}" if arguments else f"a {origin.__name__}"
    words = {float: "a number", int: "a whole number", str: "a text", bool: "true or false", types.NoneType: "null"}
    return words.get(hint, getattr(hint, "__name__", "another value"))


def unknown(
    field: str, given: str, known: Iterable[str], what: str = "fields here", elsewhere: Iterable[str] = ()
) -> str:
    """One line for a name that does not exist, with the nearest that does, else with full names from `elsewhere`."""
    known = sorted(known)
    close = difflib.get_close_matches(given, known, n=1)
    near = list(elsewhere)[:3] or close
    hint = f" did you mean {' or '.join(near)}?" if near else ""
    return f"{field}: no such name;{hint} {what}: {', '.join(known) or 'none'}"


def proposed(problem: str) -> str | None:
    """The field, with its section, that a line of `unknown` takes for the one that was meant."""
    found = _PROPOSAL.match(problem)
    return f"{found['section']}{found['name']}" if found else None


def plain(value: Any) -> Any:
    """A component as JSON-able values with its class and VERSION: what digests and result files hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        cls = type(value)
        head = {TARGET: f"{cls.__module__}.{cls.__qualname__}", "version": getattr(cls, "VERSION", 0)}
        return head | {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _bound(piece: Any) -> str:
    if hasattr(piece, "min_length"):
        return "that is not empty"
    if hasattr(piece, "pattern"):  # of `Said`, the only one
        return "of more than blanks"
    for sign, name in ((">", "gt"), (">=", "ge"), ("<", "lt"), ("<=", "le")):
        if hasattr(piece, name):
            return f"{sign} {getattr(piece, name)}"
    return str(piece)


def _dataclass_of(hint: Any) -> type | None:
    """The dataclass that a field holds, also if the field may be null."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next((item for item in options if dataclasses.is_dataclass(item)), None)  # type: ignore[return-value]
