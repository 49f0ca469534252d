"""The documented lm-eval command on a run's `edited/`: a local task, offline, against the model's own numbers."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from experiments import quick
from subprocess_env import ENVIRONMENT
from transformers import AutoModelForCausalLM, AutoTokenizer

from unlearn_cli.pipeline import run
from unlearn_cli.study import Study

TASK = """
task: objects
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: label
metric_list:
  - metric: acc
"""


@pytest.mark.slow
@pytest.mark.lm_eval
def test_accuracy_is_that_of_the_edited_model(tmp_path):
    experiment = quick(tmp_path)
    assert run(experiment, tmp_path / "run").status == "ok"
    edited, documents = tmp_path / "run" / "edited", items(Study.of(experiment))
    (tmp_path / "facts.jsonl").write_text("".join(json.dumps(item) + "\n" for item in documents))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "objects.yaml").write_text(TASK.format(data=tmp_path / "facts.jsonl"))
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={edited}"]
    command += ["--tasks", "objects", "--include_path", str(tmp_path / "tasks"), "--device", "cpu"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    told = subprocess.run(
        [*command, "--output_path", str(tmp_path / "out")], env=ENVIRONMENT | offline, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr[-2000:]
    (found,) = (tmp_path / "out").rglob("results_*.json")
    expected = accuracy(edited, documents)
    assert json.loads(found.read_text())["results"]["objects"]["acc,none"] == expected
    assert 0.25 < expected < 0.75


def items(study):
    """Every trained fact: the words before its object, and all objects of the relation, the right one first.

    Every second document calls the second choice right, so that the share is not that of a model that knows all.
    """
    world, tokenizer = study.world, study.world.vocabulary.tokenizer()
    table = world.facts
    documents = []
    for fact in world.deck("items").facts.tolist():
        sentence = world.sentences(np.array([fact]), world.language.asked[:1])
        prompt = sentence.input_ids[0, : sentence.answer_start[0]]
        right = int(table.object[fact])
        objects = world.candidates(int(table.relation[fact]))
        order = [right, *(i for i in range(len(objects)) if i != right)]
        texts = [tokenizer.decode(objects[i]) for i in order]
        documents.append({"prompt": tokenizer.decode(prompt), "choices": texts, "label": len(documents) % 2})
    return documents


def accuracy(folder, documents):
    """Share of documents whose labelled choice is the likeliest, by plain transformers."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    right = 0
    for document in documents:
        scores = []
        for choice in document["choices"]:
            prompt = tokenizer.encode(document["prompt"], add_special_tokens=False)
            answer = tokenizer.encode(choice, add_special_tokens=False)
            with torch.no_grad():
                logps = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            scores.append(sum(float(logps[len(prompt) - 1 + i, token]) for i, token in enumerate(answer)))
        right += scores.index(max(scores)) == document["label"]
    return right / len(documents)
