"""Where a checkpoint is: folders that are none, files in their place, and what the operating system forbids."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from unlearn_cli.errors import ConfigError
from unlearn_cli.models.folder import found
from unlearn_cli.models.pretrained import Pretrained, tokenizer

INDEX = "model.safetensors.index.json"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"
NO_HUB = "there is no such folder, and no hub model of that name is in the local Hugging Face cache; "


def told(look, path, *more):
    with pytest.raises(ConfigError) as refused:
        look(str(path), *more)
    (problem,) = refused.value.problems
    assert "\n" not in problem and "  " not in problem
    return problem.replace(str(path), "it")


@pytest.mark.parametrize(
    "file, becomes, said",
    [
        ("weights.safetensors", None, "holds weights.safetensors, which is not read: weights are read from model.s"),
        ("model-00001-of-00002.safetensors", None, f"holds model-00001-of-00002.safetensors and no {INDEX}, which "),
        ("pytorch_model.bin", None, "holds no .safetensors (only .bin, which are not read)"),
        ("model.safetensors", POINTER, "/model.safetensors is a pointer of git-lfs, no weights: run `git lfs pull`"),
        ("adapter_config.json", "{}", "is an adapter (adapter_config.json), no model: merge it into its base first ("),
        (INDEX, '{"weight_map": {"a": 3}}', f"/{INDEX} cannot be read: TypeError: "),
        (INDEX, '{"weight_map": {"a": "b.safetensors"}}', f"/{INDEX} names b.safetensors, which is not there"),
    ],
)
def test_what_is_no_checkpoint_is_refused(copy, file, becomes, said):
    if becomes is None:
        (copy / "model.safetensors").rename(copy / file)
    else:
        (copy / file).write_text(becomes)
    assert told(found, copy).startswith(f"model.path: it{'' if said.startswith('/') else ' '}{said}")


def test_an_adapter_alone_is_told_how_to_be_merged(copy):
    (copy / "config.json").unlink()
    (copy / "model.safetensors").rename(copy / "adapter_model.safetensors")
    (copy / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    assert told(found, copy).endswith("(peft: merge_and_unload, then save_pretrained)")


def test_other_weights_beside_those_that_are_read_are_nothing(copy):
    shutil.copy(copy / "model.safetensors", copy / "consolidated.safetensors")
    Pretrained(path=str(copy)).build(200, 64, 0)


@pytest.mark.parametrize("path", ["", "   "])
def test_an_empty_path_is_not_the_current_folder(copy, monkeypatch, path):
    monkeypatch.chdir(copy)
    said = "nothing given; expected a folder or a hub name (owner/name)"
    with pytest.raises(ConfigError, match=r"^model\.path: nothing given; expected a folder or a hub name"):
        found(path)
    with pytest.raises(ConfigError) as refused:
        tokenizer(path)
    assert refused.value.problems == [f"world.tokenizer: {said}"]


def test_a_name_that_is_not_there_is_told_what_would_fetch_it():
    assert told(found, "models/tiny") == f"model.path: it given; {NO_HUB}model.download=true fetches it"
    assert told(found, "models/tiny", False, "gold.path") == (
        f"gold.path: it given; {NO_HUB}fetch it first (hf download it)"
    )
    assert told(found, "a b/c!").startswith(f"model.path: it given; {NO_HUB}")
    assert told(found, "tiny") == "model.path: 'it' given; there is no such folder, and it is no hub name (owner/name)"
    assert told(found, "./tiny").endswith("it is no hub name (owner/name)")


@pytest.mark.parametrize("path", ["nope", "no/pe"])
def test_a_tokenizer_that_is_not_there_is_told(path):
    where = "no hub model of that name in the local Hugging Face cache has a tokenizer"
    said = f"world.tokenizer: 'it' given; there is no such folder, and {where}; name a folder that holds one"
    assert told(tokenizer, path) == said


@pytest.mark.parametrize("look, field", [(found, "model.path"), (tokenizer, "world.tokenizer")])
def test_paths_that_no_system_has_are_told(look, field):
    assert told(look, "~nouser/m") == f"{field}: it given; there is no user of that name"
    said = told(look, "x" * 5000)
    assert said.endswith("... cannot be read: File name too long") and len(said) < 300


@pytest.mark.parametrize("name", ["is_dir", "exists", "open", "read_text", "stat"])
def test_what_may_not_be_read_is_told(copy, monkeypatch, name):
    """As of folders and files of mode 000, which this process may read if it is root's."""

    def denied(self, *given, **more):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, name, denied)
    said = told(found, copy)
    assert said.startswith("model.path: it") and "Permission denied" in said and "Errno" not in said
    if name in ("is_dir", "exists", "stat"):
        assert told(tokenizer, copy) == "world.tokenizer: it cannot be read: Permission denied"


def test_a_tokenizer_that_git_lfs_left_out_is_told(copy):
    (copy / "tokenizer.json").write_text(POINTER)
    said = "world.tokenizer: it/tokenizer.json is a pointer of git-lfs: run `git lfs pull` there"
    assert told(tokenizer, copy) == said
    (copy / "tokenizer.json").unlink()
    assert told(tokenizer, copy).startswith("world.tokenizer: it holds no tokenizer (there is no tokenizer.json); ")
