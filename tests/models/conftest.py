"""A small checkpoint, and copies of it to break."""

import shutil
from pathlib import Path

import pytest
from text_samples import checkpoint


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("checkpoint") / "llama")


@pytest.fixture
def copy(llama, tmp_path):
    return Path(shutil.copytree(llama, tmp_path / "model"))
