"""Composing again and again from files that are read once."""

from __future__ import annotations

from omegaconf import OmegaConf

from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.composition import Composer

SELECTIONS = ([], ["world=tabular_tiny", "edit=remap", "method=ft"], ["experiment=every_pair"], ["method=ga"], [])


def composer():
    return Composer(parse([], config_dir()))


def test_what_was_composed_before_changes_nothing():
    one = composer()
    for chosen in SELECTIONS:
        made, fresh = (OmegaConf.to_container(each.compose(chosen), resolve=False) for each in (one, composer()))
        assert made == fresh, chosen


def test_a_composed_configuration_is_the_callers_own():
    one = composer()
    one.compose([]).trainer.threads = 7
    assert one.compose([]).trainer.threads == composer().compose([]).trainer.threads != 7


def test_each_file_is_read_once(monkeypatch):
    one, read = composer(), []
    load = one.loader.repository.delegate.load_config
    monkeypatch.setattr(one.loader.repository.delegate, "load_config", lambda path: read.append(path) or load(path))
    for chosen in SELECTIONS:
        one.compose(chosen)
    assert len(read) == len(set(read)) > 20
