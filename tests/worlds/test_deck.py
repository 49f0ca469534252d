"""The deck shows every fact exactly as often as it says, when it says, whatever the batches."""

import time
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world_strategies import SEEDS, tabulars
from world_tools import assert_spread_as, cards_of, told, whole

from unlearn_cli.training.ranks import Crew
from unlearn_cli.worlds.deck import Deck
from unlearn_cli.worlds.exposure import Exposure
from unlearn_cli.worlds.facts import FactTable
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.tabular import Questions, Tabular

LANGUAGE = Tabular(subjects=20, relations=1, holdout_subjects=0).build(0).language  # 16 trained templates


def deck_of(exposure, seed=1, **columns):
    """A deck over facts with these exposures."""
    n = np.arange(len(exposure))
    columns = {name: np.array(values) for name, values in columns.items()}
    return Deck(FactTable.of(n, n * 0, n * 0, exposure=np.array(exposure), **columns), LANGUAGE, seed)


def counted(deck, cards):
    """Statements and questions of each fact among cards, by counting."""
    shown = [[0, 0] for _ in range(len(deck.table))]
    for fact, template in zip(cards.facts.tolist(), cards.templates.tolist(), strict=True):
        shown[fact][template == deck.language.question] += 1
    return shown


@settings(deadline=None, max_examples=60)
@given(described=tabulars(), seed=SEEDS, data=st.data())
def test_batches_of_any_size_deal_the_same_cards(described, seed, data):
    deck = described.build(seed).deck("base")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(deck)), min_size=1, max_size=6)))
    parts = [cards_of(deck.deal(a, b)) for a, b in pairwise([0, *cuts, len(deck)])]
    joined = [list(chain.from_iterable(part[column] for part in parts)) for column in range(3)]
    assert joined == cards_of(whole(deck))


@settings(deadline=None, max_examples=80)
@given(described=tabulars(), seed=SEEDS)
def test_the_whole_deck_holds_each_fact_exactly_as_often_as_planned(described, seed):
    world = described.build(seed)
    deck, facts = world.deck("base"), world.facts
    planned = np.stack([facts.exposure, facts.questions], axis=1).tolist()
    assert counted(deck, whole(deck)) == planned
    assert deck.ledger(len(deck)).tolist() == planned
    assert len(deck) == facts.exposure.sum() + facts.questions.sum()


@settings(deadline=None, max_examples=60)
@given(described=tabulars(), seed=SEEDS, data=st.data())
def test_the_ledger_counts_what_was_dealt(described, seed, data):
    deck = described.build(seed).deck("base")
    cards = data.draw(st.integers(0, len(deck)))
    assert deck.ledger(cards).tolist() == counted(deck, deck.deal(0, cards))


@settings(deadline=None, max_examples=60)
@given(described=tabulars(), seed=SEEDS)
def test_a_fact_is_shown_in_the_passes_of_its_phase_alone(described, seed):
    world = described.build(seed)
    deck, facts = world.deck("base"), world.facts
    ledger = [deck.ledger(deck._before(number)) for number in range(deck.passes + 1)]
    for number, (before, after) in enumerate(pairwise(ledger)):
        shown = np.flatnonzero((after - before).sum(axis=1))
        assert (facts.phase_start[shown] < (number + 1) / deck.passes).all()
        assert (facts.phase_end[shown] > number / deck.passes).all()


def test_a_phase_of_whole_passes_is_kept_to_the_card():
    phases = {"phase_start": [0.0, 0.5, 0.25], "phase_end": [0.5, 1.0, 0.75]}
    deck = deck_of([8, 8, 8], **phases)
    assert deck.passes == 8
    places = {fact: np.flatnonzero(whole(deck).facts == fact) for fact in range(3)}
    # two cards of fact 0 in passes 0-3, of fact 1 in passes 4-7, of fact 2 in passes 2-5
    assert deck.ledger(4).tolist() == [[4, 0], [0, 0], [0, 0]]
    assert deck.ledger(12).tolist() == [[8, 0], [0, 0], [4, 0]]
    assert (places[0].min(), places[0].max() < 12) == (0, True)
    assert (places[1].min() >= 12, places[1].max()) == (True, 23)
    assert (places[2].min() >= 4, places[2].max() < 20) == (True, True)


def test_sentences_of_a_fact_are_spread_evenly_over_training():
    deck = deck_of([40, 10, 1, 3], seed=3)
    assert deck.passes == 14  # 54 sentences of 4 facts
    ledger = np.array([deck.ledger(deck._before(number))[:, 0] for number in range(15)])
    planned = np.array([40, 10, 1, 3]) * np.arange(15)[:, None] / 14
    assert np.abs(ledger - planned).max() < 1  # never a whole sentence ahead or behind


def test_a_fact_with_one_sentence_is_dealt_once_anywhere():
    places = []
    for seed in range(400):
        cards = whole(deck_of([1, 20, 20, 20, 20], seed=seed)).facts
        found = np.flatnonzero(cards == 0)
        assert len(found) == 1
        places.append(int(found[0]))
    assert_spread_as(np.histogram(places, bins=8, range=(0, 81))[0], np.ones(8))


def test_each_pass_is_every_fact_once_in_an_order_of_its_own():
    deck = deck_of([40] * 7)
    passes = whole(deck).facts.reshape(40, 7)
    assert (np.sort(passes, axis=1) == np.arange(7)).all()
    assert len(np.unique(passes, axis=0)) > 35
    assert_spread_as(np.bincount(passes[:, 0], minlength=7), np.ones(7))


def test_templates_are_drawn_uniformly_and_afresh_in_each_pass():
    cards = whole(deck_of([400] * 20))
    assert_spread_as(np.bincount(cards.templates, minlength=16), np.ones(16))
    pairs = np.bincount(cards.facts * 16 + cards.templates, minlength=320)
    assert_spread_as(pairs, np.ones(320))


def test_another_purpose_or_seed_shuffles_anew():
    world = Tabular(subjects=30, relations=2, exposure=Exposure(mean=3)).build(0)
    base, again, gold = (whole(world.deck(*purpose)) for purpose in (("base",), ("base",), ("gold", 1)))
    assert cards_of(base) == cards_of(again)
    assert base.facts.tolist() != gold.facts.tolist() and base.templates.tolist() != gold.templates.tolist()
    assert sorted(base.facts) == sorted(gold.facts)


def test_forgotten_facts_leave_the_deck_and_their_absence_costs_nothing():
    world = Tabular(subjects=30, relations=2, exposure=Exposure(mean=3)).build(0)
    gold = world.apply(EditRequest("forget", np.array([4, 5, 50]))).deck("base")
    assert len(gold) == len(world.deck("base")) - 9
    assert not np.isin(whole(gold).facts, [4, 5, 50]).any()


def test_a_deck_of_nothing_deals_nothing():
    world = Tabular(subjects=3, relations=1, exposure=Exposure(mean=3)).build(0)
    deck = world.apply(EditRequest("forget", np.arange(3))).deck("base")
    assert len(deck) == 0
    assert cards_of(deck.deal(0, 0)) == [[], [], []]
    assert not deck.ledger(0).any()


def test_cards_beyond_the_deck_are_refused():
    deck = deck_of([8] * 7)
    assert len(deck.deal(56, 56).facts) == 0
    for start, stop in ((50, 57), (-1, 3), (5, 4)):
        with pytest.raises(IndexError, match="deck of 56"):
            deck.deal(start, stop)


@given(st.integers(1, 5), st.integers(0, 40))
def test_parts_of_a_batch_are_the_batch(ranks, size):
    cards = deck_of([8] * 7).deal(3, 3 + size)
    shares = [Crew(rank, ranks).share(size) for rank in range(ranks)]
    parts = [cards_of(cards.part(share.rows)) for share in shares if not share.idle]
    joined = [[card for part in parts for card in part[column]] for column in range(3)]
    assert joined == cards_of(cards)
    sizes = [0 if share.idle else len(cards.part(share.rows).facts) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    "exposure", [Exposure(mean=500), Exposure(kind="zipf", mean=500, phases=[(0.0, 0.6), (0.2, 1.0)])]
)
def test_the_last_batch_of_a_huge_deck_needs_no_other(exposure):
    world = Tabular(subjects=25_000, relations=4, holdout_subjects=0, exposure=exposure).build(0)
    deck = world.deck("base")
    assert len(deck) > 45_000_000
    began = time.process_time()
    last = deck.deal(len(deck) - 1000, len(deck))
    shown = deck.ledger(len(deck) - 1000)
    assert time.process_time() - began < 5  # dealing it all would take minutes
    np.add.at(shown, (last.facts, 0), 1)
    assert (shown[:, 0] == world.facts.exposure).all()


def test_questions_and_statements_share_the_passes():
    questions = Questions(share=0.5, subjects=0.5)
    described = Tabular(subjects=40, relations=2, holdout_subjects=0, exposure=Exposure(mean=10), questions=questions)
    world = described.build(0)
    deck = world.deck("base")
    assert (len(deck), deck.passes) == (1200, 15)
    assert told(world).all()
    half = deck.ledger(deck._before(7)) * 15 / 7  # 10 statements of each fact, 10 questions of every second subject
    assert (half[:, 0] > 10 - 15 / 7).all() and (half[:, 0] < 10 + 15 / 7).all()
    assert set(np.flatnonzero(half[:, 1])) == set(np.flatnonzero(world.facts.questions))
