"""Generated text, options and perplexity by hand: ROUGE, kinds of answers, entropies, multiple choice, RESTOR."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from doubles import O, evaluation, from_probabilities, mixed, oracle, uniform, world
from experiments import quick

from unlearn_cli.metrics.collapse import TOKENS, Collapse
from unlearn_cli.metrics.mcq_accuracy import PRIORS, McqAccuracy
from unlearn_cli.metrics.muse_knowmem import MuseKnowmem
from unlearn_cli.metrics.muse_verbmem import MuseVerbmem
from unlearn_cli.metrics.output_validity import OutputValidity, general_entropy, ngram_entropy, repetition
from unlearn_cli.metrics.overlap import longest_common, rouge_1, rouge_l
from unlearn_cli.metrics.restor import Restor
from unlearn_cli.metrics.targets import FACTS
from unlearn_cli.observations.answered import KINDS, kinds
from unlearn_cli.observations.object_priors import ObjectPriors
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study
from unlearn_cli.worlds.vocabulary import OBJECT_MARK, STOP

PROBES, OLD = world()
N = len(OLD)
FORGET = PROBES.splits["forget"].rows
P, E = 1, 0  # padding and the end of a text


def brute_force_lcs(a, b):
    """Longest of all subsequences of `a` that are one of `b`."""
    for length in range(len(a), 0, -1):
        for chosen in itertools.combinations(a, length):
            rest = iter(b)
            if all(token in rest for token in chosen):
                return length
    return 0


def test_longest_common_subsequence_against_brute_force():
    rng = np.random.default_rng(0)
    said, reference = rng.integers(5, 9, (60, 7)), rng.integers(5, 9, (60, 6))
    expected = [brute_force_lcs(a, b) for a, b in zip(said.tolist(), reference.tolist(), strict=True)]
    assert longest_common(said, reference).tolist() == expected


def test_rouge_by_hand():
    """Police killed the gunman / police kill the gunman, Lin 2004: LCS 3 of 4 and 4; reversed order: 1-grams only."""
    reference = np.array([[11, 12, 13, 14, E], [11, 12, 13, 14, E], [11, 12, P, P, P], [E, P, P, P, P]])
    said = np.array([[11, 15, 13, 14, E], [14, 13, 12, 11, E], [9, 11, 12, 9, 9], [11, 11, 11, 11, 11]])
    assert rouge_l(said[:3], reference[:3], "recall") == pytest.approx([0.75, 0.25, 1])
    assert rouge_l(said[:3], reference[:3], "f1") == pytest.approx([0.75, 0.25, 2 * 2 / (2 + 5)])
    assert rouge_1(said[:3], reference[:3], "recall") == pytest.approx([0.75, 1, 1])
    assert np.isnan(rouge_l(said, reference, "recall")[3])  # no word to recall
    assert rouge_l(reference[:3], reference[:3], "f1") == pytest.approx([1, 1, 1])
    assert rouge_l(said[:1], np.array([[7, 8]]), "f1") == [0]
    assert rouge_1(np.array([[5, 5, 5]]), np.array([[5, 6]]), "recall") == [0.5]  # counted once


def test_entropies_of_a_text_by_hand():
    """a b a b a b: bigrams ab ab ab ba ba, trigrams aba aba bab bab."""
    text = np.array([11, 12] * 3)
    assert ngram_entropy(text, 2) == pytest.approx(0.97095, abs=1e-5)
    assert ngram_entropy(text, 3) == 1
    assert general_entropy(text) == pytest.approx(0.99032, abs=1e-5)
    assert repetition(text) == pytest.approx(1 - 2 / 5)
    assert repetition(np.arange(5)) == 0


def test_kinds_of_answers(tmp_path):
    w = Study.of(quick(tmp_path)).world
    own, other = w.candidates(0), w.candidates(1)
    filler = w.vocabulary["filler"].start
    said = [OBJECT_MARK, own[0, 0], own[1, 0], other[0, 0], filler, STOP, E]
    tokens = np.array(said)[:, None]
    reference = np.full((len(said), 1), own[0, 0])
    found = [KINDS[kind] for kind in kinds(w, np.zeros(len(said), int), tokens, reference)]
    assert found == ["refusal", "correct", "other_valid", "wrong_type", "degenerate", "degenerate", "degenerate"]
    longer = np.concatenate([tokens, np.full((len(said), 3), filler)], axis=1)  # three equal words behind it
    found = [KINDS[kind] for kind in kinds(w, np.zeros(len(said), int), longer, reference)]
    assert found[:3] == ["refusal", "correct", "degenerate"]


def spoken(metric, tokens, reference, rows=FORGET, kind=None, probes=PROBES):
    (asked,) = metric.observations
    n = len(rows)
    number = np.full(n, asked.sets.index("forget"))
    arrays = {"set": number, "rows": rows, "tokens": tokens, "reference": reference}
    arrays["kind"] = np.zeros(n, int) if kind is None else kind
    found = replace(evaluation(probes, edited=oracle(OLD)), observed={("edited", asked): (arrays,)})
    return metric.compute(found)


def test_verbatim_and_knowledge_memorisation():
    reference = np.tile([11, 12, 13, E], (8, 1))
    said = reference.copy()
    assert spoken(MuseVerbmem(), said, reference)["muse_verbmem/forget"].edited.value == 100
    said[:4] = [11, 15, 15, E]  # LCS 1 of 3 and 3
    found = spoken(MuseVerbmem(), said, reference)["muse_verbmem/forget"]
    assert found.edited.value == pytest.approx(100 * (1 + 1 / 3) / 2)
    assert found.direction == "to_gold" and found.edited.n == 8
    known = spoken(MuseKnowmem(), said, reference)
    assert known["muse_knowmem/forget"].edited.value == found.edited.value
    assert known["muse_knowmem/forget"].reason == "asked as statements"


def test_shares_of_kinds_sum_to_one():
    kind = np.array([0, 1, 1, 2, 3, 3, 3, 4])
    words = np.tile([11, 12] * 3, (8, 1))
    found = spoken(OutputValidity(), words, words, kind=kind)
    share = {name: found[f"output_validity/{name}/forget"].edited.value for name in KINDS}
    assert share == {"refusal": 1 / 8, "correct": 2 / 8, "degenerate": 1 / 8, "other_valid": 3 / 8, "wrong_type": 1 / 8}
    assert found["output_validity/type_validity/forget"].edited.value == 5 / 8
    assert found["output_validity/entropy/forget"].edited.value == pytest.approx(0.99032, abs=1e-5)
    short = spoken(OutputValidity(), words[:, :1], words[:, :1], kind=kind)
    assert short["output_validity/entropy/forget"].status == "skipped"


def chosen(model, prior=None, options=4):
    facts = {"relation": np.zeros(N, int), "objects": np.full(N, O)}
    arrays = {"logps": np.log(np.full((1, O), 1 / O) if prior is None else prior)}
    seen = {("edited", FACTS): (facts,), ("edited", PRIORS): (arrays,)}
    found = McqAccuracy(options=options).compute(replace(evaluation(PROBES, edited=model), observed=seen))
    return {key.removeprefix("mcq_accuracy/"): value.edited and value.edited.value for key, value in found.items()}


def test_multiple_choice():
    assert chosen(oracle(OLD))["cloze/forget"] == chosen(oracle(OLD))["pmi/forget"] == 1
    assert chosen(uniform(N))["cloze/forget"] == chosen(uniform(N))["pmi/holdout"] == 0.25
    assert chosen(uniform(N), options=2)["cloze/forget"] == 0.5
    avoided = from_probabilities(np.where(np.eye(O)[OLD] == 1, 0.0, 0.25))
    assert chosen(avoided)["cloze/forget"] == 0  # below chance: it knows what to avoid


def test_pmi_takes_the_prior_away():
    """The model says what is frequent; relative to that its prompts raise the right object."""
    prior = np.array([[0.96, 0.01, 0.01, 0.01, 0.01]])
    p = np.tile(prior, (N, 1)) * np.where(np.eye(O)[OLD] == 1, 1.5, 1.0)
    model = from_probabilities(p / p.sum(1, keepdims=True))
    found = chosen(model, prior, options=O)
    assert found["cloze/forget"] == np.mean(OLD[FORGET] == 0)
    assert found["pmi/forget"] == 1


def test_priors_are_those_of_a_text_that_begins_with_an_object(tmp_path):
    import torch

    study = Study.of(quick(tmp_path))
    model = study.experiment.model.build(study.world.vocabulary.size, study.world.max_length, 0).eval()
    found = ObjectPriors().observe(model, scene_of(study))["logps"]
    with torch.no_grad():
        logps = model(input_ids=torch.tensor([[E, OBJECT_MARK]])).logits[0, -1].log_softmax(-1).numpy()
    for relation in range(2):
        assert found[relation] == pytest.approx(logps[study.world.candidates(relation)[:, 0]], abs=1e-5)


def test_perplexity_and_its_ratio():
    """Two tokens a sentence, one of them an object: the base at 1/2 and 1/8, the edited at 1/8 and 1/8."""
    rows = np.arange(N)
    real, answer = np.ones((N, 2), bool), np.tile([True, False], (N, 1))
    seen = {}
    for role, p in (("base", 1 / 2), ("edited", 1 / 8)):
        logp = np.log(np.tile([p, 1 / 8], (N, 1)))
        seen[role, TOKENS] = ({"rows": rows, "logp": logp, "real": real, "answer": answer},)
    found = replace(evaluation(PROBES, base=oracle(OLD), edited=oracle(OLD)), observed=seen)
    of_objects = {key: value.edited.value for key, value in Collapse(factor=3.0).compute(found).items()}
    expected = {"collapse/perplexity": 8, "collapse/ratio": 4, "collapse/collapsed": 1}
    assert of_objects == pytest.approx(expected)
    sentences = Collapse(tokens="sentence").compute(found)
    assert sentences["collapse/ratio"].edited.value == pytest.approx(2)  # 8 / sqrt(2 * 8)
    assert sentences["collapse/ratio"].base.value == 1
    assert sentences["collapse/collapsed"].edited.value == 0


def test_recovery_of_clean_corrupted_and_forgetting_models():
    probes, corrupted = world(remap=True)
    clean = corrupted.copy()
    for name in ("edited", "edited_para"):
        clean[probes.splits[name].rows] = probes.splits[name].answer
    gone = mixed(oracle(corrupted), oracle((clean + 1) % O), FORGET)

    def values(model):
        found = evaluation(probes, base=oracle(corrupted), edited=model, gold=[oracle(clean)])
        return {key.removeprefix("restor/"): value for key, value in Restor().compute(found).items()}

    for model, recovery, forgot in ((oracle(clean), 1, 1), (oracle(corrupted), 0, 0), (gone, 0, 1)):
        found = values(model)
        assert found["recovery"].edited.value == recovery
        assert found["forget_corrupt"].edited.value == forgot
    kinds_of = {key: values(oracle(clean))[key].edited.value for key in ("clean", "corrupted", "other")}
    assert kinds_of == pytest.approx(
        {"clean": math.log(0.9), "corrupted": math.log(0.025), "other": math.log(0.025)}, abs=1e-5
    )
    skipped = Restor().compute(evaluation(PROBES, base=oracle(OLD), edited=oracle(OLD), gold=[oracle(OLD)]))
    assert {value.reason for value in skipped.values()} == {"the request names no new object"}
