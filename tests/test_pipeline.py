"""Whole runs: what they write, what they reuse, and that the same experiment gives the same bits."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from experiments import quick
from transformers import AutoModelForCausalLM, AutoTokenizer

from unlearn_cli import run
from unlearn_cli.cache import Cache
from unlearn_cli.edits.remap import Remap
from unlearn_cli.experiment import Evaluate, Experiment, Gold, Paths, Retain, Trainer
from unlearn_cli.methods.ft import FT
from unlearn_cli.methods.ga import GA
from unlearn_cli.methods.noop import Noop
from unlearn_cli.methods.npo import NPO
from unlearn_cli.methods.retrain import Retrain
from unlearn_cli.pipeline import describe
from unlearn_cli.predict import load
from unlearn_cli.results import Result
from unlearn_cli.stages import all_stages
from unlearn_cli.study import Study


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    experiment = quick(folder)
    return folder, experiment, run(experiment)


def weights(result, name):
    return AutoModelForCausalLM.from_pretrained(result.run_dir / name).state_dict()


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def without_times(metrics):
    return {key: entry for key, entry in metrics.items() if not key.startswith("cost/")}


def test_the_run_folder_holds_everything(done):
    _, experiment, result = done
    assert result.status == "ok" and result.exit_status == 0
    assert {path.name for path in result.run_dir.iterdir()} >= {
        "result.json", "request.json", "items.parquet", "base", "gold", "edited",
    }  # fmt: skip
    stored = json.loads((result.run_dir / "result.json").read_text())
    assert stored["status"] == "ok" and set(stored["stages"]) == {"train", "gold", "edit", "evaluate"}
    assert stored["metrics"]["fact_accuracy/forget"]["base"]["value"] >= 0.9
    request = json.loads((result.run_dir / "request.json").read_text())
    assert request["facts"] == Study.of(experiment).request.facts.tolist()


def test_checkpoints_are_plain_hugging_face_folders(done):
    _, experiment, result = done
    study = Study.of(experiment)
    tokenizer = AutoTokenizer.from_pretrained(result.run_dir / "base")
    model = AutoModelForCausalLM.from_pretrained(result.run_dir / "base").eval()
    fact = study.world.facts.trained[:1]
    sentences = study.world.sentences(fact, np.zeros(1, dtype=np.int64))
    prompt = tokenizer.decode(sentences.input_ids[0, : sentences.answer_start[0]])
    answer = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=1, do_sample=False)[0, -1]
    assert int(answer) == sentences.answers[0, 0]
    assert not same(weights(result, "base"), weights(result, "edited"))
    assert not same(weights(result, "base"), weights(result, "gold"))


def test_gold_never_saw_the_requested_facts(done):
    _, experiment, result = done
    study = Study.of(experiment)
    ledger = np.load(result.run_dir / "gold" / "ledger.npy").sum(axis=1)
    assert (ledger[study.request.facts] == 0).all()
    assert ledger[np.setdiff1d(study.world.facts.trained, study.request.facts)].min() > 0
    assert np.load(result.run_dir / "base" / "ledger.npy").sum(axis=1)[study.request.facts].min() > 0


def test_a_second_run_computes_nothing(done):
    _, experiment, result = done
    again = run(experiment)
    assert all(stage["cached"] for stage in again.stages.values())
    assert again.metrics == result.metrics
    assert all("  hit   " in line for line in describe(experiment))


def test_the_same_experiment_elsewhere_gives_the_same_bits(done, tmp_path):
    _, _, result = done
    other = run(quick(tmp_path))
    for name in ("base", "gold", "edited"):
        assert same(weights(result, name), weights(other, name))
    assert without_times(other.metrics) == without_times(result.metrics)


def test_gold_in_a_second_process_gives_the_same_bits(done, tmp_path):
    _, experiment, result = done
    other = run(quick(tmp_path, trainer=replace(experiment.trainer, side_by_side=True)))
    assert same(weights(result, "gold"), weights(other, "gold"))
    assert without_times(other.metrics) == without_times(result.metrics)


def changed_stages(done, **changes):
    _, experiment, _ = done
    before = {(stage.name, stage.label): stage.digest for stage in all_stages(Study.of(experiment))}
    after = [stage.digest for stage in all_stages(Study.of(replace(experiment, **changes)))]
    return [name for (name, _), digest in before.items() if digest not in after]


def test_only_what_depends_on_a_change_is_made_again(done):
    later = ["edit", "predict", "evaluate"]
    assert changed_stages(done, method=GA(retain_loss="none")) == later
    assert changed_stages(done, retain=Retain(pool=0.5)) == ["edit", "predict", "predict", "predict", "evaluate"]
    assert changed_stages(done, evaluate=Evaluate(bootstrap_samples=50)) == ["evaluate"]
    assert changed_stages(done, paths=Paths(cache="elsewhere", link="copy")) == []
    assert changed_stages(done, trainer=Trainer(accelerator="cpu", precision="fp32", progress=True)) == []
    assert set(changed_stages(done, seed=1)) == {"train", "gold", *later}
    assert set(changed_stages(done, trainer=Trainer(accelerator="cpu", precision="fp32", threads=2))) == {
        "train", "gold", *later,
    }  # fmt: skip


def test_evaluation_does_not_depend_on_the_batch_size(done):
    folder, experiment, result = done
    other = run(replace(experiment, evaluate=Evaluate(batch_size=3)))
    mine, theirs = (
        load(Cache(folder / "cache").find(stage).path / "predictions.npz")
        for e in (experiment, replace(experiment, evaluate=Evaluate(batch_size=3)))
        for stage in all_stages(Study.of(e))
        if stage.name == "predict" and stage.label.endswith("-edit")
    )
    np.testing.assert_allclose(mine.candidate_logps, theirs.candidate_logps, atol=1e-5)
    for key, entry in without_times(result.metrics).items():
        assert entry["value"] == pytest.approx(other.metrics[key]["value"], abs=1e-5)


def test_noop_is_the_base_and_retrain_is_the_gold(done):
    _, experiment, _ = done
    nothing, retrained = run(replace(experiment, method=Noop())), run(replace(experiment, method=Retrain()))
    assert same(weights(nothing, "base"), weights(nothing, "edited"))
    assert same(weights(retrained, "gold"), weights(retrained, "edited"))
    entry = nothing.metrics["fact_accuracy/forget"]
    assert entry["value"] == entry["base"]["value"]
    assert retrained.metrics["distance_to_gold/kl/forget"]["value"] == pytest.approx(0, abs=1e-9)


def test_a_fresh_retraining_is_no_gold_model(done):
    _, experiment, _ = done
    result = run(replace(experiment, method=Retrain(fresh=True)))
    assert not same(weights(result, "gold"), weights(result, "edited"))
    assert result.metrics["distance_to_gold/kl/forget"]["value"] > 0.01


def test_several_golds_give_a_distribution(done):
    _, experiment, result = done
    several = run(replace(experiment, gold=Gold(n=3)))
    assert len(several.stages["gold"]["members"]) == 3
    assert (several.run_dir / "gold-2" / "model.safetensors").exists()
    assert several.metrics["distance_to_gold/kl/forget"]["gold"]["value"] > 0  # how far two golds lie apart
    assert result.metrics["distance_to_gold/kl/forget"]["gold"] is None


def test_without_gold_its_metrics_say_so(done):
    _, experiment, _ = done
    result = run(replace(experiment, gold=Gold(n=0)))
    assert result.status == "ok" and "gold" not in result.stages
    assert not (result.run_dir / "gold").exists()
    skipped = [entry for key, entry in result.metrics.items() if key.startswith("distance_to_gold")]
    assert skipped and all(entry["status"] == "skipped" and entry["value"] is None for entry in skipped)
    assert result.metrics["fact_accuracy/forget"]["gold"] is None


def test_a_remap_is_scored_on_both_objects(done, tmp_path):
    _, experiment, _ = done
    ft = FT(steps=200, lr=3e-3, stop_loss=0.02, retain_batch=8)
    result = run(replace(experiment, edit=Remap(n=2), method=ft))
    assert result.metrics["fact_accuracy/edited"]["value"] == 1.0  # the new object
    assert result.metrics["fact_accuracy/edited"]["direction"] == "higher"
    assert result.metrics["fact_accuracy/forget"]["value"] == 0.0  # the old one
    assert result.metrics["fact_accuracy/edited"]["gold"]["value"] >= 0.9  # gold is trained on the new one
    forgetting = run(replace(experiment, edit=Remap(n=2), method=NPO(steps=5, retain_batch=8)))
    assert forgetting.notes == ["NPO forgets the old objects of a remap edit; it is not shown the new ones"]


def test_copied_checkpoints_are_no_links(done, tmp_path):
    folder, experiment, _ = done
    result = run(replace(experiment, paths=Paths(cache=str(folder / "cache"), runs=str(tmp_path), link="copy")))
    assert not (result.run_dir / "base").is_symlink()
    assert (result.run_dir / "base" / "model.safetensors").is_file()


def test_a_second_run_into_the_same_folder_replaces_the_first(done, tmp_path):
    folder, experiment, _ = done
    place = tmp_path / "place"
    first = run(experiment, place)
    second = run(replace(experiment, method=Noop()), place)
    assert first.status == second.status == "ok"
    assert (place / "edited").resolve().name.endswith(second.stages["edit"]["digest"])
    cached = sorted((folder / "cache").rglob("model.safetensors"))
    before = {path: path.read_bytes() for path in cached}
    copied = run(replace(experiment, paths=replace(experiment.paths, link="copy")), place)
    assert copied.status == "ok" and not (place / "edited").is_symlink()
    assert {path: path.read_bytes() for path in cached} == before  # nothing was copied through a link
    again = run(experiment, place)
    assert again.status == "failed" and "in the way" in again.error["message"]


def test_a_failing_stage_is_named(done, tmp_path):
    _, experiment, _ = done
    result = run(quick(tmp_path, train=replace(experiment.train, max_passes=1.0)))
    assert (result.status, result.exit_status) == ("failed", 1)
    stored = Result.read(result.run_dir / "result.json")
    assert stored.error["stage"] == "train" and "below train.min_recall" in stored.error["message"]


def test_a_defect_is_recorded_too(done, tmp_path, monkeypatch):
    monkeypatch.setattr("unlearn_cli.builders.build_edit", lambda *_: 1 / 0)
    result = run(quick(tmp_path))
    assert (result.status, result.error["stage"], result.error["type"]) == ("failed", "edit", "ZeroDivisionError")
    assert set(result.stages) == {"train", "gold"}


def test_python_and_dict_give_the_same_digests(done):
    _, experiment, _ = done
    from unlearn_cli.config import plain

    def bare(value):
        if isinstance(value, dict):
            return {key: bare(item) for key, item in value.items() if key != "version"}
        return value

    values = bare(plain(experiment))
    for key in ("_target_", "choices"):
        values.pop(key)
    for section in ("trainer", "paths", "retain", "gold", "evaluate", "attack"):
        values[section].pop("_target_")
    for nested in (*values["world"].values(), *values["method"].values()):
        if isinstance(nested, dict):
            nested.pop("_target_")
    again = Experiment.from_config(values)
    assert [s.digest for s in all_stages(Study.of(again))] == [s.digest for s in all_stages(Study.of(experiment))]


CACHED = """
import sys
from dataclasses import replace
from pathlib import Path
from pathlib import Path
from experiments import quick
from unlearn_cli import run
from unlearn_cli.tracking import Logger
result = run(replace(quick(Path(sys.argv[1])), logger=Logger(kind="wandb")))
assert all(stage["cached"] for stage in result.stages.values()), result.stages
print([name for name in ("torch", "lightning", "transformers") if name in sys.modules])
"""


def test_a_cached_run_needs_no_torch_even_with_wandb(done):
    folder, _, _ = done
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}
    command = [sys.executable, "-c", CACHED, str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert finished.stdout.strip() == "[]", finished.stderr
