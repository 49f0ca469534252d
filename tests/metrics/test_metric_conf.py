"""The configuration group: every metric has a file that states its fields, and the preset composes them."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from unlearn_cli.config import build, plain
from unlearn_cli.errors import ConfigError
from unlearn_cli.metrics.base import Metric

CONF = Path(__file__).parents[2] / "conf"
EVERY = sorted((CONF / "metric").glob("*.yaml"))
FILES = [path for path in EVERY if "_target_: " in path.read_text()]
STEMS = [path.stem for path in FILES]
PRESETS = [path for path in EVERY if path not in FILES]


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("config", overrides=list(overrides)).metric, resolve=True)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_states_the_defaults_of_its_class(path):
    node = composed(f"metric={path.stem}")
    assert list(node) == [path.stem]
    metric = build(node[path.stem], f"metric.{path.stem}", Metric)
    values = plain(metric)
    assert node[path.stem] == {key: value for key, value in values.items() if key != "version"}
    if path.stem == getattr(metric, "name", path.stem):  # not one of several settings of a class
        assert values == plain(type(metric)())
    package, line, target, *fields = path.read_text().splitlines()
    assert package == f"# @package metric.{path.stem}"  # Hydra reads it in the first line only
    assert line.startswith("# ")
    assert target.startswith("_target_: ")
    assert all("  # " in field for field in fields)


def test_all_holds_every_metric_and_shadow_those_that_need_shadow_models():
    made = {stem: build(composed(f"metric={stem}")[stem], f"metric.{stem}", Metric) for stem in STEMS}
    assert sorted(composed("metric=all")) == [stem for stem in STEMS if not made[stem].shadows]
    assert sorted(composed("metric=shadow")) == [stem for stem in STEMS if made[stem].shadows]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_says_what_it_is_for_and_names_metrics(path):
    assert path.read_text().startswith("# ")
    assert set(composed(f"metric={path.stem}")) <= {path.stem for path in FILES}


def test_core_observes_nothing_and_each_metric_can_be_overridden():
    built = [build(node, f"metric.{name}", Metric) for name, node in composed().items()]
    assert not any(metric.observations for metric in built)
    changed = composed("metric=core", "metric.split_report.known_only=false")
    assert changed["split_report"]["known_only"] is False


def test_several_can_be_chosen():
    assert list(composed("metric=[fact_accuracy,cost]")) == ["fact_accuracy", "cost"]


def test_wrong_values_are_refused_together():
    node = {"_target_": "unlearn_cli.metrics.phrasing_generalization.PhrasingGeneralization", "min_before": 2.0}
    with pytest.raises(ConfigError) as error:
        build(node | {"min_change": 0, "min_befor": 1.0}, "metric.phrasing_generalization", Metric)
    assert len(error.value.problems) == 3
