"""The shape of `result.json`, as JSON Schema in the few keywords used here, and the check against it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args

from unlearn_cli.evaluation import Direction

SCHEMA_VERSION = 1
STAGES = ("train", "gold", "corrupt", "prepare", "edit", "evaluate")

Schema = Mapping[str, Any]


def _object(optional: Collection[str] = (), **properties: Schema) -> dict[str, Any]:
    """An object with exactly these keys, of which `optional` ones may be absent."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _or_null(schema: Schema) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
NUMBER = {"type": "number"}
INTERVAL = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
READING = _object(value=NUMBER, ci=_or_null(INTERVAL), n=COUNT)
METRIC = _object(
    value=_or_null(NUMBER),
    n=_or_null(COUNT),
    ci=_or_null(INTERVAL),
    unit=TEXT,
    direction={"enum": list(get_args(Direction))},
    status={"enum": ["ok", "skipped", "failed"]},
    reason=_or_null(TEXT),
    base=_or_null(READING),
    gold=_or_null(READING),
)
ARTIFACT: dict[str, Schema] = {
    "digest": TEXT,
    "cached": {"type": "boolean"},
    "seconds": {"type": "number", "minimum": 0},
    "peak_memory_bytes": _or_null(COUNT),
    "path": TEXT,
}
STAGE = _object(**ARTIFACT)
OBSERVATION = _object(label=TEXT, digest=TEXT, cached={"type": "boolean"}, seconds={"type": "number", "minimum": 0})
EVALUATE = _object(
    **ARTIFACT,
    predictions={"type": "array", "items": TEXT},  # digests, base, edited, gold, then shadows
    observations={"type": "array", "items": OBSERVATION},
)
GOLD = _object(**ARTIFACT, members={"type": "array", "items": _object(**ARTIFACT, member=COUNT), "minItems": 1})
SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **_object(
        optional=["replica"],  # where it is not written it is 0
        schema_version={"enum": [SCHEMA_VERSION]},
        status={"enum": ["ok", "failed", "interrupted"]},
        exit_status=COUNT,
        choices={"type": "object", "additionalProperties": TEXT},
        seed=COUNT,
        replica=COUNT,
        name=_or_null(TEXT),
        request={"type": "object"},
        notes={"type": "array", "items": TEXT},
        metrics={"type": "object", "additionalProperties": METRIC},
        stages={
            "type": "object",
            "properties": {name: {"gold": GOLD, "evaluate": EVALUATE}.get(name, STAGE) for name in STAGES},
            "additionalProperties": False,
        },
        error=_or_null(_object(stage=_or_null(TEXT), type=TEXT, message=TEXT)),
        provenance={"type": "object"},
    ),
}


def validate(result: Any) -> list[str]:
    """Say what is wrong with the parsed content of a `result.json`, one line each; nothing if it is sound."""
    problems = list(_mismatches(result, SCHEMA, "result"))
    return problems or [*_contradictions(result), *_contradictory_metrics(result["metrics"])]


def _mismatches(value: Any, schema: Schema, place: str) -> Iterator[str]:
    if "anyOf" in schema:
        found = [list(_mismatches(value, option, place)) for option in schema["anyOf"]]
        yield from [] if [] in found else found[0]
    elif "enum" in schema:
        if not any(type(value) is type(option) and value == option for option in schema["enum"]):
            yield f"{place} is {value!r}, not one of {', '.join(map(str, schema['enum']))}"
    elif not _is(value, schema["type"]):
        yield f"{place} is {value!r:.60}, not of type {schema['type']}"
    elif "minimum" in schema and value < schema["minimum"]:
        yield f"{place} is {value}, below {schema['minimum']}"
    elif isinstance(value, dict):
        yield from _object_mismatches(value, schema, place)
    elif isinstance(value, list):
        yield from _array_mismatches(value, schema, place)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "number":
        return isinstance(value, int | float) and math.isfinite(value)
    types: dict[str, type] = {"null": type(None), "string": str, "integer": int, "array": list, "object": dict}
    return kind in types and isinstance(value, types[kind])


def _object_mismatches(value: dict[str, Any], schema: Schema, place: str) -> Iterator[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    yield from (f"{place}.{name} is missing" for name in schema.get("required", ()) if name not in value)
    for name, item in value.items():
        inner = properties.get(name, others)
        if inner is False:
            yield f"{place}.{name} does not belong there"
        elif inner:
            yield from _mismatches(item, inner, f"{place}.{name}")


def _array_mismatches(value: list[Any], schema: Schema, place: str) -> Iterator[str]:
    least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    if not least <= len(value) <= most:
        yield f"{place} has {len(value)} items"
    for index, item in enumerate(value):
        yield from _mismatches(item, schema["items"], f"{place}[{index}]")


def _contradictions(result: Mapping[str, Any]) -> Iterator[str]:
    status, code = result["status"], result["exit_status"]
    if (status == "ok") != (code == 0):
        yield f"result.exit_status is {code}, but result.status {status}"
    if (status == "ok") != (result["error"] is None):
        yield f"result.error is {'null' if result['error'] is None else 'set'}, but result.status {status}"


def _contradictory_metrics(metrics: Mapping[str, Any]) -> Iterator[str]:
    for name, entry in metrics.items():
        place, known = f"result.metrics.{name}", entry["status"] == "ok"
        if any((entry[key] is not None) != known for key in ("value", "n")):
            yield f"{place} is {entry['status']}, but its value is {entry['value']} and its n {entry['n']}"
        if not known and not entry["reason"]:
            yield f"{place} is {entry['status']} without a reason"
        for reading in (entry, entry["base"], entry["gold"]):
            if reading and reading["ci"] and reading["ci"][0] > reading["ci"][1]:
                yield f"{place} has the interval {reading['ci']}, which ends before it begins"
