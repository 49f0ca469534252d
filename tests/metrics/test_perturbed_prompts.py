"""Prompts with other filler words, and behind some: by hand, and asked of models that heed or ignore them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from experiments import quick

from unlearn_cli import predict
from unlearn_cli.evaluation import Bootstrap, Evaluation
from unlearn_cli.metrics.paraphrase import Paraphrase
from unlearn_cli.observations.base import Unobservable
from unlearn_cli.observations.rephrased import fillers, misspelt, wrapped
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study
from unlearn_cli.worlds.language import QUESTION_WORDS, Sentences

WORDS = np.array([20, 21, 22])


def two_prompts():
    """END filler subject filler MARK object STOP, and one whose only filler stands behind the object."""
    rows = np.array([[0, 20, 50, 21, 4, 70, 3], [0, 51, 4, 71, 22, 3, 1]])
    return Sentences(rows, np.array([5, 3]), np.array([7, 6]), 1, np.array([2, 1]))


def test_a_typo_exchanges_a_filler_word_of_the_prompt_and_nothing_else():
    start, rng = two_prompts(), np.random.default_rng(0)
    for count in (1, 2, 9):
        found = misspelt(start, WORDS, count, rng)
        changed = found.input_ids != start.input_ids
        assert changed.sum(1).tolist() == [min(count, 2), 0]
        assert np.flatnonzero(changed[0]).tolist() in ([1], [3], [1, 3])
        assert np.isin(found.input_ids[changed], WORDS).all()
        assert found.answers.tolist() == [[70], [71]]
    assert start.input_ids[0].tolist() == [0, 20, 50, 21, 4, 70, 3]  # the original is left alone
    with pytest.raises(Unobservable, match="no prompt has a filler word"):
        misspelt(start, np.array([90, 91]), 1, rng)


def test_every_filler_word_and_place_is_hit_by_some_typo():
    start, rng, seen = two_prompts(), np.random.default_rng(0), set()
    for _ in range(50):
        ids = misspelt(start, WORDS, 1, rng).input_ids[0]
        seen.add((int(ids[1]), int(ids[3])))
    assert seen == {(21, 21), (22, 21), (20, 20), (20, 22)}


def test_words_in_front_move_everything_else():
    start = two_prompts()
    found = wrapped(start, WORDS, 3, np.random.default_rng(0))
    assert found.input_ids.shape == (2, 10)
    assert (found.input_ids[:, 0] == 0).all()
    assert np.isin(found.input_ids[:, 1:4], WORDS).all()
    np.testing.assert_array_equal(found.input_ids[:, 4:], start.input_ids[:, 1:])
    assert found.answer_start.tolist() == [8, 6]
    assert found.subject_end.tolist() == [5, 4]
    assert found.length.tolist() == [10, 9]
    assert found.answers.tolist() == [[70], [71]]
    nobody = replace(start, subject_end=np.array([-1, 1]))
    assert wrapped(nobody, WORDS, 3, np.random.default_rng(0)).subject_end.tolist() == [-1, 4]


class Knows(torch.nn.Module):
    """Answers by what is left of a row when some tokens are ignored."""

    def __init__(self, world, facts, ignored=()):
        super().__init__()
        self.ignored, self.size = set(ignored), world.vocabulary.size
        self.config = SimpleNamespace(max_position_embeddings=512)
        self.unused = torch.nn.Parameter(torch.zeros(1))
        templates = np.concatenate([world.language.phrasings.asked, world.language.phrasings.heldout])
        said = world.sentences(np.repeat(facts, len(templates)), np.tile(templates, len(facts)))
        rows, ends = said.input_ids.tolist(), said.answer_start.tolist()
        self.known = {self.read(row[:end]): row[end] for row, end in zip(rows, ends, strict=True)}

    def read(self, row):
        return tuple(token for token in row if token not in self.ignored)

    def forward(self, input_ids, logits_to_keep, use_cache):
        logits = torch.zeros(len(input_ids), len(logits_to_keep), self.size)
        for i, row in enumerate(input_ids.tolist()):
            for j, place in enumerate(logits_to_keep.tolist()):
                token = self.known.get(self.read(row[: place + 1]))
                if token is not None:
                    logits[i, j, token] = 30.0
        return SimpleNamespace(logits=logits)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study.of(quick(tmp_path_factory.mktemp("perturbed")))


def values(study, metric, **models):
    scene = scene_of(study)
    seen = {(role, metric.attack): (metric.attack.observe(model, scene),) for role, model in models.items()}
    asked = {role: (predict.predict(model, study.world, study.probes, 512),) for role, model in models.items()}
    found = metric.compute(Evaluation(study.probes, asked, {}, {}, Bootstrap(50), seen))
    return {name.split("/")[1]: value for name, value in found.items()}


@pytest.mark.parametrize("kind", ["typo", "wrapper"])
def test_who_ignores_filler_words_answers_as_ever_and_who_needs_them_does_not(study, kind):
    scene = scene_of(study)
    words = fillers(scene)
    assert len(words) == study.world.vocabulary["filler"].words - QUESTION_WORDS
    trained = study.world.facts.trained
    kept = np.setdiff1d(trained, study.request.facts)
    metric = Paraphrase(kind=kind, variants=3, words=2, rows=20)
    ignores, forgot = Knows(study.world, trained, words), Knows(study.world, kept, words)
    found = values(study, metric, base=ignores, edited=forgot, gold=forgot)
    assert found["forget"].base.value == found["any"].base.value == 1
    assert found["forget"].edited.value == pytest.approx(0.2)  # uniform over five objects
    assert found["gain"].edited.value == pytest.approx(0, abs=1e-12)
    assert found["excess"].edited.value == pytest.approx(0, abs=1e-12)
    assert found["retain"].edited.value == 1
    # only the edit's own wording is gone: any other filler word brings the facts back
    word_for_word = Knows(study.world, trained)
    found = values(study, metric, base=word_for_word, edited=word_for_word)
    assert found["forget"].status == "skipped"
    assert "itself knows 0." in found["forget"].reason


def test_an_edit_of_one_wording_comes_back_by_a_typo(study):
    """A model that is silent at the exact prompts and answers all others."""
    scene = scene_of(study)
    words, trained = fillers(scene), study.world.facts.trained

    class Silent(Knows):
        def read(self, row):
            return ("silent",) if tuple(row) in self.exact else super().read(row)

    probes = study.probes
    rows = probes.splits["forget"].rows
    said = study.world.sentences(probes.fact[rows], probes.template[rows])
    Silent.exact = set()
    edited = Silent(study.world, trained, words)
    Silent.exact = {tuple(row[:end]) for row, end in zip(said.input_ids.tolist(), said.answer_start, strict=True)}
    whole = Knows(study.world, trained, words)
    found = values(study, Paraphrase(kind="typo", variants=2, rows=20), base=whole, edited=edited)
    assert found["gain"].edited.value == pytest.approx(0.8)
    assert found["recovery"].edited.value == pytest.approx(1)
