"""TOFU's numbers on a file of TOFU's columns, against the same computed by hand from plain logits and plain text."""

import re

import numpy as np
import pytest
import torch
from text_samples import checkpoint, composed, write
from transformers import AutoModelForCausalLM, AutoTokenizer

from unlearn_cli.pipeline import run
from unlearn_cli.study import Study

WORDS = ["red", "old", "green", "tall", "small", "house", "river", "tree", "bridge", "stone"]


def rows(name, count, seed, reworded):
    rng = np.random.default_rng(seed)

    def answer():
        return f"The {' '.join(rng.choice(WORDS, rng.integers(2, 5)))} of {name}"

    found = []
    for number in range(count):
        row = {"question": f"What did {name} {number} see?", "answer": answer()}
        row |= {"perturbed_answer": [answer() for _ in range(5)]} if name != "Cal" else {}
        row |= {"paraphrased_answer": f"It saw {answer().lower()}"} if reworded else {}
        found.append(row | {"relation": name if name == "Cal" else "seen"})
    return found


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """A model that half knows the files, their rows, and `result.json`."""
    folder = tmp_path_factory.mktemp("tofu")
    held = {"forget": rows("Ann", 5, 1, True), "retain": [*rows("Bob", 6, 2, True), *rows("Cal", 4, 3, False)]}
    files = [f"world.{part}={write(folder / f'{part}.jsonl', found)}" for part, found in held.items()]
    path = checkpoint(folder / "llama", max_position_embeddings=256)
    train = ["train=finetune", "train.max_passes=40", "train.decay_passes=40", "world.exposure=40"]
    train += ["train.lr=0.004", "train.matrix_lr=0.004", "train.batch_size=8", "gold.n=0"]
    made = composed(folder, "world=qa", *files, f"model.path={path}", *train, "method=noop", "metric=tofu")
    result = run(made)
    assert result.status == "ok", result.error
    probes, every = Study.of(made).probes, [*held["forget"], *held["retain"]]
    near = probes.splits["same_relation/unseen"].rows  # rows of the requests' relation that the method may not use
    held["near"] = [every[fact] for fact in probes.fact[near]]
    model = AutoModelForCausalLM.from_pretrained(result.run_dir / "base")
    read = AutoTokenizer.from_pretrained(result.run_dir / "base")
    return held, result.metrics, model, read


def loss(model, read, question, answer):
    """Mean negative log-probability of the answer's tokens."""
    head = read(f"Question: {question}\nAnswer:", add_special_tokens=False)["input_ids"]
    whole = read(f"Question: {question}\nAnswer: {answer}", add_special_tokens=False)["input_ids"]
    logps = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    return -np.mean([logps[i - 1, whole[i]].item() for i in range(len(head), len(whole))])


def truth_ratio(model, read, row):
    """Geometric mean of the perturbed answers' probabilities over that of the right one in other words."""
    wrong = np.mean([loss(model, read, row["question"], answer) for answer in row["perturbed_answer"]])
    return np.exp(loss(model, read, row["question"], row["paraphrased_answer"]) - wrong)


def test_probability_of_the_answer(outcome):
    held, metrics, model, read = outcome
    hand = np.mean([np.exp(-loss(model, read, row["question"], row["answer"])) for row in held["forget"]])
    assert metrics["tofu_probability/forget"]["value"] == pytest.approx(hand, rel=1e-4)
    assert 0.05 < hand < 0.99


def test_truth_ratio_is_perturbed_over_paraphrased(outcome):
    held, metrics, model, read = outcome
    ratios = np.array([truth_ratio(model, read, row) for row in held["forget"]])
    closeness, knowledge = np.minimum(ratios, 1 / ratios).mean(), (1 / (1 + ratios)).mean()
    assert metrics["truth_ratio/closeness/forget"]["value"] == pytest.approx(closeness, rel=1e-4)
    assert metrics["truth_ratio/knowledge/forget"]["value"] == pytest.approx(knowledge, rel=1e-4)
    assert metrics["truth_ratio/knowledge/forget"]["reason"] is None


def lcs(a, b):
    """Length of the longest common subsequence."""
    if not a or not b:
        return 0
    return 1 + lcs(a[:-1], b[:-1]) if a[-1] == b[-1] else max(lcs(a[:-1], b), lcs(a, b[:-1]))


def test_rouge_l_recall_counts_words_of_the_text(outcome):
    held, metrics, model, read = outcome
    answers = [
        answer for part in held.values() for row in part for answer in [row["answer"], *row.get("perturbed_answer", ())]
    ]
    answers += [row["paraphrased_answer"] for part in held.values() for row in part if "paraphrased_answer" in row]
    most = max(len(read(f" {answer}")["input_ids"]) for answer in [*answers, "I don't know."])
    scores = []
    for row in held["forget"]:
        prompt = read(f"Question: {row['question']}\nAnswer:", return_tensors="pt")
        said = model.generate(**prompt, max_new_tokens=most, do_sample=False, pad_token_id=1)
        text = read.decode(said[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        words, wanted = (re.findall(r"\w+", told.lower()) for told in (text, row["answer"]))
        scores.append(lcs(tuple(words), tuple(wanted)) / len(wanted))
    assert metrics["tofu_rouge/forget"]["value"] == pytest.approx(np.mean(scores))
    assert np.mean(scores) > 0.2


def test_near_is_a_choice_among_the_perturbed_answers(outcome):
    held, metrics, model, read = outcome
    shares = []
    for row in held["near"]:
        odds = [np.exp(-loss(model, read, row["question"], a)) for a in [row["answer"], *row["perturbed_answer"]]]
        shares.append(odds[0] / sum(odds))
    assert metrics["tofu_probability/near"]["value"] == pytest.approx(np.mean(shares), rel=1e-4)
    assert len(shares) >= 3


def test_model_utility_is_the_harmonic_mean_of_the_nine(outcome):
    _, metrics, _, _ = outcome
    nine = [value["value"] for key, value in metrics.items() if key.startswith("model_utility/")]
    assert len(nine) == 9
    hand = 0 if min(nine) == 0 else 9 / sum(1 / value for value in nine)
    assert metrics["model_utility"]["value"] == pytest.approx(hand, rel=1e-6)
