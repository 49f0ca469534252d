"""Composing again and again from files that are read once."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from unlearn_cli import cli
from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.composition import Composer, _kept_loader, loader_of

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
    _kept_loader.cache_clear()
    one, read = composer(), []
    load = one.loader.repository.delegate.load_config
    monkeypatch.setattr(one.loader.repository.delegate, "load_config", lambda path: read.append(path) or load(path))
    for chosen in SELECTIONS:
        one.compose(chosen)
    assert len(read) == len(set(read)) > 20


def test_a_run_of_a_sweep_reads_a_file_again_only_if_it_changed(tmp_path):
    folder = tmp_path / "own"
    (folder / "method").mkdir(parents=True)
    option = folder / "method" / "mine.yaml"
    option.write_text("defaults: [ga, _self_]\nsteps: 3\n")
    words = [f"--config-dir={folder}", "method=mine"]

    def composed():
        command = parse(words, config_dir())
        loader = loader_of(command)
        made = loader.load_configuration("config", command.overrides, run_mode=RunMode.RUN)
        return loader, made.method.steps

    (first, steps), (second, _) = composed(), composed()
    assert first is second and steps == 3
    option.write_text("defaults: [ga, _self_]\nsteps: 12\n")
    third, steps = composed()
    assert third is not first and steps == 12


def test_a_run_that_is_known_to_be_one_is_composed_as_hydra_does(tmp_path, monkeypatch):
    words = ["world=tabular_tiny", "method=npo", "metric=cost", f"paths.cache={tmp_path}", "hydra.mode=RUN"]
    seen = []

    def carry_out(config):
        seen.append([OmegaConf.to_container(part, resolve=False) for part in (config, HydraConfig.get())])
        return 0

    monkeypatch.setattr(cli, "_carry_out", carry_out)
    for call in (cli.hand_to_hydra, cli.run_one):
        assert call([], [*words, f"hydra.run.dir={tmp_path}/run"], config_dir()) == 0
    assert seen[0] == seen[1]
    assert (tmp_path / "run" / ".hydra" / "config.yaml").exists()
