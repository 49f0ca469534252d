"""Every yaml in conf: documented, complete, of the right types, importable without torch; new files are found."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import typing
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from subprocess_env import ENVIRONMENT

from unlearn_cli.check import check
from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.composition import LIST_GROUPS, Composer
from unlearn_cli.config import TARGET, locate
from unlearn_cli.errors import ConfigError
from unlearn_cli.experiment import Experiment, parts
from unlearn_cli.help import text
from unlearn_cli.streams import generator
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.yaml_docs import groups, read_option, settings

CONF = config_dir()
FILES = sorted(path.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml"))
OPTIONS = [(group, option) for group, options in groups([CONF]).items() for option in options]
PARTS = [pair for pair in OPTIONS if "/" in pair[0]]  # of a component, as method/mask
COMPONENTS = [pair for pair in OPTIONS if pair[0] != "experiment" and pair not in PARTS]
SIZES = ("tiny", "small", "medium", "paper")
SCALARS = (bool, int, float, str)
EXPERIMENTS = [option for group, option in OPTIONS if group == "experiment"]


@cache
def composed(*selections: str) -> dict[str, Any]:
    """The configuration with these options, resolved, without Hydra's part."""
    config = Composer(parse([], CONF)).compose(selections)
    values = OmegaConf.to_container(config, resolve=False)
    del values["hydra"]
    return values


def selection(group: str, option: str) -> str:
    return f"{group}=[{option}]" if group in LIST_GROUPS else f"{group}={option}"


def nested_dataclass(hint: Any) -> type | None:
    return next((item for item in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(item)), None)


def components(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, type, Mapping[str, Any]]]:
    """Every dataclass that a configuration describes: its place, its class, its values."""
    for key, value in values.items():
        if isinstance(value, Mapping) and TARGET in value:
            yield f"{place}{key}", locate(value[TARGET], key, object, []), value
        elif isinstance(value, Mapping):
            yield from components(value, f"{place}{key}.")
    if not place:
        for key, hint in typing.get_type_hints(Experiment).items():
            if dataclasses.is_dataclass(hint) and TARGET not in values.get(key, {}):
                yield key, hint, values[key]


def mismatches(place: str, cls: type, values: Mapping[str, Any]) -> Iterator[str]:
    """Where a class and its yaml differ in names or in the types of defaults."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    names = set(values) - {TARGET}
    yield from (f"{place}.{name}: only in the class" for name in fields.keys() - names)
    yield from (f"{place}.{name}: only in the yaml" for name in names - fields.keys())
    hints = typing.get_type_hints(cls)
    for name in fields.keys() & names:
        inner, default = nested_dataclass(hints[name]), getattr(fields[name].default, "default", fields[name].default)
        if inner and isinstance(values[name], Mapping):
            yield from mismatches(f"{place}.{name}", inner, values[name])
        elif isinstance(default, SCALARS) and values[name] is not None and type(default) is not type(values[name]):
            yield f"{place}.{name}: {values[name]!r} in the yaml, {default!r} in the class"


@pytest.mark.parametrize("name", FILES)
def test_a_file_begins_with_one_line_that_says_what_it_is(name):
    comments = []
    for line in (CONF / name).read_text().splitlines():
        if not line.startswith("#"):
            break
        comments.append(line)
    said = [line for line in comments if not line.startswith("# @package")]
    assert len(said) >= 1 and len(said[0]) > len("# mine")
    assert comments == said or comments[0].startswith("# @package")  # Hydra reads its header in the first lines only


@pytest.mark.parametrize(("group", "option"), [pair for pair in OPTIONS if pair not in PARTS])
def test_a_yaml_has_exactly_the_fields_of_its_class(group, option):
    found = [item for part in components(composed(selection(group, option))) for item in mismatches(*part)]
    assert found == []


@pytest.mark.parametrize(("group", "option"), COMPONENTS)
def test_an_option_is_valid_by_itself(group, option):
    values = OmegaConf.to_container(OmegaConf.create(composed(selection(group, option))), resolve=True)
    assert parts(values)[group]


@pytest.mark.parametrize(("group", "option"), PARTS)
def test_a_part_fits_a_method_that_has_it(group, option):
    (with_it,), (without,) = (check(parse(words, CONF)).cells for words in (["method=npo", f"{group}={option}"], []))
    changed = group.partition("/")[2]
    method = with_it.experiment.method
    assert getattr(method, changed) != getattr(without.experiment.method, changed)
    assert replace(method, **{changed: getattr(without.experiment.method, changed)}) == without.experiment.method


def _marked(experiment: str):
    """Hundreds of runs take a minute to check."""
    many = ("every_pair", "behemoth_rank", "behemoth_rank_paper", "methods_grid")
    return pytest.param(experiment, marks=pytest.mark.slow) if experiment in many else experiment


@pytest.mark.parametrize("experiment", map(_marked, EXPERIMENTS))
def test_every_run_of_an_experiment_is_accepted(experiment):
    assert check(parse([f"experiment={experiment}"], CONF)).cells


@pytest.mark.parametrize(("group", "option"), COMPONENTS)
def test_every_field_says_what_it_is(group, option):
    assert [name for name, entry in read_option(group, option, [CONF]).fields.items() if not entry.comment] == []


def test_every_setting_says_what_it_is():
    assert [name for name, entry in settings(CONF).items() if not entry.comment] == []


@cache
def listed(*words: str) -> list[list[str]]:
    """The rows of a help text, each as an option and its line."""
    return [row.lstrip(" *").split(maxsplit=1) for row in text(words, CONF, {}).splitlines()]


def test_the_help_lists_every_option_with_its_line():
    for group, option in OPTIONS:
        row = [option, read_option(group, option, [CONF]).line]
        folded = group == "experiment" and option.startswith("tune_")
        assert (row in listed("--help")) != folded, (group, option)
        assert row in listed("--help", group), (group, option)


def test_the_help_folds_the_searches_into_one_line():
    fold = ["tune_<method>", "search of a method's settings, one for each method"]
    assert fold in listed("--help") and fold not in listed("--help", "experiment")


@pytest.mark.parametrize(("group", "option"), COMPONENTS)
def test_the_help_of_an_option_has_its_values(group, option):
    values = OmegaConf.create(composed(selection(group, option)))
    for name, entry in read_option(group, option, [CONF]).fields.items():
        written = OmegaConf.create(f"value: {entry.value}")
        assert OmegaConf.to_container(written)["value"] == in_container(values, name)


def in_container(values: Any, name: str) -> Any:
    """The value at a dotted name, references left as they are."""
    plain = OmegaConf.to_container(values)
    for key in name.split("."):
        plain = plain[key]
    return plain


def test_what_a_target_names_imports_without_torch():
    targets = {
        value
        for path in CONF.rglob("*.yaml")
        for value in _targets(yaml.safe_load(path.read_text()))
        if value.startswith("unlearn_cli")
    }
    assert len(targets) > 10
    modules = sorted({target.rpartition(".")[0] for target in targets})
    script = (
        f"import importlib, sys; [importlib.import_module(name) for name in {modules}];"
        "print(sorted({'torch', 'lightning', 'transformers', 'wandb', 'pyarrow'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        yield from [node[TARGET]] if TARGET in node else []
        for value in node.values():
            yield from _targets(value)


def test_an_included_file_is_no_option():
    hidden = [Path(name) for name in FILES if Path(name).name.startswith("_")]
    assert hidden
    for path in hidden:
        assert path.stem not in Composer(parse([], CONF)).options(path.parts[0])


# What only some worlds offer: edit -> the name that such worlds begin with.
OFFERED_BY = {"refuse_qa": "questions_", "promote_minority": "dissent_", "suppress_minority": "dissent_"}
OFFERED_BY |= {"given": "qa", "given_remap": "edits"}  # tested with files in worlds/test_text_worlds.py
REFUSED = {("remap", "rules"): "with edit.distinct=true at most 1"}  # yes and no leave one pair of old and new
SHIPPED_WORLDS = [option for group, option in OPTIONS if group == "world" and option.rpartition("_")[2] in SIZES]


@cache
def built(world: str) -> WorldData:
    return parts(OmegaConf.to_container(OmegaConf.create(composed(f"world={world}")), resolve=True))["world"].build(0)


@pytest.mark.parametrize("world", SHIPPED_WORLDS)
@pytest.mark.parametrize("edit", [option for group, option in OPTIONS if group == "edit"])
def test_every_edit_works_by_default_on_every_world_that_offers_it(world, edit):
    resolver = parts(OmegaConf.to_container(OmegaConf.create(composed(f"edit={edit}")), resolve=True))["edit"]
    if not world.startswith(OFFERED_BY.get(edit, "")):
        with pytest.raises(ConfigError, match="needs a world"):
            resolver.resolve(built(world), generator(0, "edit"))
        return
    if reason := REFUSED.get((edit, world.partition("_")[0])):
        with pytest.raises(ConfigError, match=reason):
            resolver.resolve(built(world), generator(0, "edit"))
        return
    request = resolver.resolve(built(world), generator(0, "edit"))
    assert request.op == edit and len(request.facts) > 1


@pytest.mark.parametrize("world", [name for name in SHIPPED_WORLDS if name.startswith("nested")])
@pytest.mark.parametrize("edge", ["sn", "on"])
@pytest.mark.parametrize("edit", ["remap", "permute", "collapse"])
def test_other_edges_of_a_nested_world_can_be_edited_by_default(world, edge, edit):
    composition = composed(f"edit={edit}", f"edit.edge={edge}")
    resolver = parts(OmegaConf.to_container(OmegaConf.create(composition), resolve=True))["edit"]
    request = resolver.resolve(built(world), generator(0, "edit"))
    assert set(built(world).relations.edge[built(world).facts.relation[request.facts]]) == {edge}


@pytest.mark.parametrize("kind", ["tabular", "correlated", "nested", "dissent", "questions"])
def test_worlds_come_in_three_sizes(kind):
    assert {f"{kind}_{size}" for size in ("tiny", "small", "paper")} <= set(SHIPPED_WORLDS)
    facts = [len(built(f"{kind}_{size}").facts) for size in ("tiny", "small", "paper")]
    assert facts == sorted(facts) and facts[0] <= 1_500 and facts[2] >= 600_000


@pytest.mark.parametrize("edit", [option for group, option in OPTIONS if group == "edit"])
@pytest.mark.parametrize("method", [option for group, option in OPTIONS if group == "method"])
def test_a_method_takes_the_edits_that_make_sense_for_it(method, edit):
    both = parts(OmegaConf.to_container(OmegaConf.create(composed(f"method={method}", f"edit={edit}")), resolve=True))
    takes = both["edit"].op in both["method"].takes
    assert takes == (both["edit"].op != "forget" or method != "ft")
