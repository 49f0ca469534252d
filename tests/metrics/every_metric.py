"""Every file of conf/metric that is a metric, found in the folder: a new one is under contract without a list."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import OmegaConf

from unlearn_cli.config import build
from unlearn_cli.metrics.base import Metric

CONF = Path(__file__).parents[2] / "conf"
STEMS = [path.stem for path in sorted((CONF / "metric").glob("*.yaml")) if "_target_: " in path.read_text()]


@cache
def nodes():
    """The composed values of every file, by its stem."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("config", overrides=[f"metric=[{','.join(STEMS)}]"]).metric, resolve=True)


def class_of(stem):
    """The class that the file names."""
    return get_class(nodes()[stem]["_target_"])


def metric(stem, **changes):
    """The metric as the file states it; `changes` replace fields."""
    return build(nodes()[stem] | changes, f"metric.{stem}", Metric)
