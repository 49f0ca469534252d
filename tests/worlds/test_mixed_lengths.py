"""Sentences whose objects differ in their number of tokens: where the tokens stand, and what is behind them."""

import numpy as np
import pytest
from mixed import mixed

from unlearn_cli.exchange.text import Texts
from unlearn_cli.methods.gradients import chunks
from unlearn_cli.observations.contexts import chosen, in_context
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.grammar import Grammar
from unlearn_cli.worlds.tabular import Tabular
from unlearn_cli.worlds.vocabulary import END, PADDING, STOP

PLAIN = Tabular(subjects=12, relations=2, objects=6, holdout_subjects=2, object_tokens=3)
WORLD = mixed(PLAIN.build(0))
FACTS = np.arange(len(WORLD.facts))


def sentences(world=WORLD, template=None):
    asked = world.language.asked
    templates = asked[FACTS % len(asked)] if template is None else np.full(len(FACTS), template)
    return world.sentences(FACTS, templates)


def test_every_object_is_found_where_its_sentence_has_it():
    told = sentences()
    objects = WORLD.facts.object
    spelled = WORLD.language.answers(WORLD.facts.relation, objects)
    assert set(told.answer_lengths) == {2, 3}
    for row in FACTS:
        length, start, end = told.answer_lengths[row], told.answer_start[row], told.length[row]
        own = told.input_ids[row, start : start + length]
        assert length == 3 - objects[row] % 2
        assert own.tolist() == spelled[row, :length].tolist() == told.answers[row, :length].tolist()
        assert told.input_ids[row, start + length : end].tolist() == [STOP, END]
        assert told.answer_end[row] == start + length - 1


def test_what_stands_behind_a_shorter_object_can_be_looked_up_and_does_not_count():
    told = sentences()
    short = told.answer_lengths == 2
    assert (told.answers[short, 2] == PADDING).all() and (told.answers[~short] != PADDING).all()
    assert (told.positions[short, 2] == told.positions[short, 1]).all()
    assert (np.diff(told.positions, axis=1) >= 0).all()
    assert (told.positions < told.through_answer.shape[1]).all()
    assert told.answer_mask.sum(1).tolist() == told.answer_lengths.tolist()
    assert told.answer_tokens == told.answer_lengths.sum() == told.answer_places.sum()


def test_objects_of_one_length_have_no_mask():
    told = sentences(PLAIN.build(0))
    assert told.answer_mask is None and told.answer_lengths is None
    assert told.answer_places.all() and told.answer_tokens == 3 * len(FACTS)
    assert told.positions.tolist() == (told.answer_start[:, None] + np.arange(3)).tolist()
    assert (told.answer_end == told.answer_start + 2).all()


def test_candidates_and_the_refusal_tell_their_lengths():
    tokens, lengths = WORLD.candidates(1), WORLD.candidate_lengths(1)
    assert lengths.tolist() == [3, 2, 3, 2, 3, 2]
    words = [tuple(word[:length]) for word, length in zip(tokens.tolist(), lengths, strict=True)]
    assert len(set(words)) == 6
    assert WORLD.refusal_length.tolist() == [3] and len(WORLD.refusal_tokens) == 3
    plain = PLAIN.build(0)
    assert plain.candidate_lengths(1) is None and plain.refusal_length is None
    assert plain.refusal_tokens.tolist() == plain.refusal[0].tolist()


def test_parts_and_contexts_keep_the_lengths():
    told = sentences()
    assert np.concatenate([part.answer_lengths for part in chunks(told, 5)]).tolist() == told.answer_lengths.tolist()
    picked = chosen(told, np.array([3, 1]))
    assert picked.answer_lengths.tolist() == told.answer_lengths[[3, 1]].tolist()
    behind = in_context([told], told)
    assert behind.answers.tolist() == told.answers.tolist()
    assert (behind.answer_end - behind.answer_start == told.answer_end - told.answer_start).all()


@pytest.mark.parametrize("kind", ["inverted", "repeats"])
def test_the_other_objects_of_a_fact_may_be_longer(kind):
    world = mixed(Tabular(subjects=12, relations=2, objects=6, object_tokens=3, grammar=Grammar(kind=kind)).build(0))
    facts = np.repeat(np.arange(6), 3)
    objects = np.tile([0, 1, REFUSAL], 6)
    told = world.sentences(facts, np.full(18, world.language.question), objects)
    assert told.answer_lengths.tolist() == [3, 2, 3] * 6
    expected = world.language.answers(world.facts.relation[facts], objects)
    assert told.answers.tolist() == expected.tolist()


def test_texts_of_answers_end_where_the_objects_do():
    texts, facts = Texts(WORLD), np.arange(6)
    prompts, answers = texts.asked(facts, np.repeat(WORLD.language.asked[:1], 6))
    objects = WORLD.facts.object[facts]
    assert [len(answer.split()) for answer in answers] == (3 - objects % 2).tolist()
    assert texts.objects(WORLD.facts.relation[facts], objects) == answers
    told = WORLD.sentences(facts, np.repeat(WORLD.language.asked[:1], 6))
    whole = texts.joined(told.input_ids, told.answer_end + 1).to_pylist()
    assert [f"{prompt} {answer}" for prompt, answer in zip(prompts, answers, strict=True)] == whole
