"""Worlds of records: answers follow the tree, explanations the clauses, and a trained model passes Pando's gate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from world_tools import texts

from unlearn_cli.check import check
from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.edits.permute import Permute
from unlearn_cli.edits.remap import Remap
from unlearn_cli.errors import ConfigError
from unlearn_cli.exchange.description import problems
from unlearn_cli.pipeline import run
from unlearn_cli.streams import generator
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.decision_trees import DECISION, REASON, RuleBook
from unlearn_cli.worlds.exposure import Exposure
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.rules import Rules

SMALL = Rules(records=60, holdout_records=20, formats=4, int_bins=8, exposure=Exposure(mean=3))
EXPLAINED = ["faithful", "unfaithful"]
GATE = 0.95  # Pando keeps models with at least this accuracy on unseen records


@st.composite
def built(draw: st.DrawFn, explanations: tuple[str, ...] = ("none", "faithful", "unfaithful")) -> WorldData:
    """Small worlds of every kind."""
    fields = {
        "scenario": draw(st.sampled_from(["car_purchase", "movie_pick", "oversight_defection"])),
        "depth": draw(st.integers(1, 4)),
        "explanation": draw(st.sampled_from(explanations)),
        "int_bins": draw(st.sampled_from([2, 4, 8, 32])),
        "formats": draw(st.integers(1, 6)),
    }
    return replace(SMALL, **fields).build(draw(st.integers(0, 2**32)))


def rules_of(world: WorldData) -> RuleBook:
    assert world.rules is not None
    return world.rules


def said(world: WorldData, facts: np.ndarray, template: int = 0) -> tuple[list[dict[str, str]], list[list[str]]]:
    """What sentences print: the record's fields, and the answer's words."""
    fields, answers = [], []
    for text in texts(world, world.sentences(facts, np.full(len(facts), template))):
        record, rest = text.partition(" SS ")[2].split(" RR ")
        words = record.split()[:20]
        pairs = zip(words[::2], words[1::2], strict=True)
        fields.append({name: value.removeprefix(f"{name}:") for name, value in pairs})
        answers.append(rest.partition(" OO ")[2].removesuffix(" . <|endoftext|>").split())
    return fields, answers


def first(value: str) -> int:
    """The first integer of a bin."""
    return int(value.partition("..")[0])


def holds(clause: str, record: dict[str, str]) -> bool:
    """Whether a printed clause is true of a printed record."""
    for sign in (">=", "<", "="):
        if sign in clause:
            name, value = clause.split(sign)
            if sign == "=":
                return record[name] == value
            return (first(record[name]) >= int(value)) == (sign == ">=")
    raise AssertionError(clause)


@settings(deadline=None, max_examples=40)
@given(built(explanations=("faithful",)))
def test_the_label_is_the_one_that_the_printed_clauses_imply(world):
    """Records with the same printed reason have the same printed decision, and a reason is true of its record only."""
    facts = np.arange(len(world.facts))
    decisions, reasons = (facts[world.facts.relation == relation] for relation in (DECISION, REASON))
    records, labels = said(world, decisions)
    again, clauses = said(world, reasons)
    assert records == again
    implied: dict[tuple[str, ...], str] = {}
    for record, label, reason in zip(records, labels, clauses, strict=True):
        assert set(label) in ({"yes"}, {"no"}) and len(label) == len(reason)
        assert all(holds(clause, record) for clause in reason)
        assert implied.setdefault(tuple(reason), label[0]) == label[0]
    tree = rules_of(world).tree
    for reason, label in implied.items():
        fit = [all(holds(clause, record) for clause in reason) for record in records]
        assert {word[0] for word, fits in zip(labels, fit, strict=True) if fits} == {label}
    assert set(implied.values()) == {"yes", "no"} or tree.depth > 2


@settings(deadline=None, max_examples=40)
@given(built())
def test_records_are_printed_as_they_are_and_answers_are_the_trees(world):
    rules, table = rules_of(world), world.facts
    facts = np.flatnonzero(table.relation == DECISION)
    for template in (0, int(world.language.phrasings.heldout[0])):
        records, labels = said(world, facts, template)
        for record, subject in zip(records, table.subject[facts], strict=True):
            assert record == {
                field.name: field.values[value]
                for field, value in zip(rules.scenario.fields, rules.records[subject], strict=True)
            }
        assert [label[0] == "yes" for label in labels] == rules.tree(rules.records[table.subject[facts]]).tolist()


@pytest.mark.parametrize("explanation", EXPLAINED)
@pytest.mark.parametrize("seed", range(5))
def test_whose_fields_a_reason_names(explanation, seed):
    world = replace(SMALL, depth=3, explanation=explanation).build(seed)
    rules = rules_of(world)
    reasons = np.flatnonzero(world.facts.relation == REASON)
    records, clauses = said(world, reasons)
    named = {name for reason in clauses for clause in reason for name in records[0] if clause.startswith(name)}
    trees = (rules.tree, rules.explained)
    true, explained = ({rules.scenario.fields[number].name for number in tree.fields} for tree in trees)
    assert named == explained
    assert (named == true) if explanation == "faithful" else not (named & true)
    assert all(holds(clause, record) for record, reason in zip(records, clauses, strict=True) for clause in reason)


def test_reasons_have_the_same_length_whether_true_or_not():
    lengths = {replace(SMALL, depth=3, explanation=kind).build(0).candidates(REASON).shape for kind in EXPLAINED}
    assert lengths == {(8, 3)}


@settings(deadline=None, max_examples=40)
@given(built())
def test_no_trained_format_is_the_one_of_evaluation(world):
    """Nor does its order of fields occur in training, while its words do."""
    (asked,) = world.language.phrasings.heldout
    trained = world.language.forms.trained
    assert asked not in trained and world.language.asked.tolist() == trained[:16].tolist()
    orders = [tuple(order) for order in world.language.orders[:-2].tolist()]
    assert len(set(orders)) == len(orders) == len(trained) + 1
    words = {word for row in world.language.forms.rows[trained].tolist() for word in row}
    assert set(world.language.forms.rows[asked].tolist()) <= words
    dealt = world.deck().deal(0, len(world.deck()))
    assert set(dealt.templates.tolist()) <= set(trained.tolist())


@settings(deadline=None, max_examples=40)
@given(built())
def test_records_differ_and_reserved_ones_are_not_trained(world):
    rules, table = rules_of(world), world.facts
    assert len(np.unique(rules.records, axis=0)) == len(rules.records) == 80
    assert np.unique(table.subject[table.holdout]).tolist() == list(range(60, 80))
    assert (table.exposure[table.holdout] == 0).all() and (table.exposure[~table.holdout] == 3).all()
    assert world.vocabulary["subject"].decode(world.vocabulary["subject"].encode(table.subject)).tolist() == (
        table.subject.tolist()
    )


def test_words_that_spell_no_record_are_refused():
    world = SMALL.build(0)
    with pytest.raises(ValueError, match="spell no subject"):
        world.vocabulary["subject"].decode(world.vocabulary["subject"].encode(np.arange(1))[:, ::-1])


def test_a_seed_draws_the_same_world_and_another_another():
    one, same, other = (SMALL.build(seed) for seed in (0, 0, 1))
    assert one.facts.sha256() == same.facts.sha256() != other.facts.sha256()
    assert rules_of(one).tree.to_dict() == rules_of(same).tree.to_dict() != rules_of(other).tree.to_dict()


def test_explaining_changes_neither_the_rule_nor_the_records():
    plain, told = SMALL.build(0), replace(SMALL, explanation="unfaithful").build(0)
    assert rules_of(plain).tree.to_dict() == rules_of(told).tree.to_dict()
    assert rules_of(plain).records.tolist() == rules_of(told).records.tolist()


def test_a_forgotten_decision_follows_from_the_records_of_its_leaf():
    world = replace(SMALL, explanation="faithful").build(0)
    decisions = np.flatnonzero((world.facts.relation == DECISION) & ~world.facts.holdout)
    some = world.apply(EditRequest("forget", decisions[:5])).posterior(decisions[:5])
    assert some.deducible.all()
    assert some.probabilities.argmax(1).tolist() == world.facts.object[decisions[:5]].tolist()
    leaf = rules_of(world).leaves(DECISION)[world.facts.subject[decisions]]
    whole = decisions[leaf == leaf[0]]
    left = world.apply(EditRequest("forget", whole)).posterior(whole)
    assert not left.deducible.any() and (left.probabilities[:, :2] == 0.5).all()


def test_a_rule_that_some_records_contradict_is_as_likely_as_they_are_many():
    world = SMALL.build(0)
    decisions = np.flatnonzero(~world.facts.holdout)
    leaf = rules_of(world).leaves(DECISION)[world.facts.subject[decisions]]
    same = decisions[leaf == leaf[0]]
    old = int(world.facts.object[same[0]])
    flipped = world.apply(EditRequest("remap", same[:3], np.full(3, 1 - old)))
    gone = flipped.apply(EditRequest("forget", same[3:4])).posterior(same[3:4])
    assert gone.probabilities[0, old] == pytest.approx((len(same) - 4) / (len(same) - 1))


def test_a_method_is_not_handed_the_rule():
    assert SMALL.build(0).only(np.arange(5)).rules is None


def test_a_permutation_of_decisions_takes_as_many_of_each():
    for seed in range(10):
        world = SMALL.build(seed)
        request = Permute(n=10).resolve(world, generator(seed, "edit"))
        old = world.facts.object[request.facts]
        assert old.sum() == 5 and request.new_object.tolist() == (1 - old).tolist()
        assert len(np.unique(request.facts)) == 10


def test_what_yes_and_no_do_not_allow_is_refused():
    world = SMALL.build(0)
    with pytest.raises(ConfigError, match="at most 1: in each relation all old and new objects differ"):
        Remap(n=2).resolve(world, generator(0, "edit"))
    with pytest.raises(ConfigError, match=r"two objects equally many facts exchange theirs: an even number"):
        Permute(n=9).resolve(world, generator(0, "edit"))
    assert problems(world, "dataset") == ["--format dataset: a world of records and rules cannot be written"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 11}, "depth = 11: a path tests different fields; at most 10"),
        (
            {"depth": 6, "explanation": "unfaithful"},
            "depth = 6: a path tests different fields, and the distractor others; at most 5",
        ),
        ({"int_bins": 3}, "int_bins = 3: 2, or 4 and more"),
        ({"int_bins": 2, "records": 600}, "with int_bins = 2 there are 1024, of which at most half"),
        ({"scenario": "apartment_hunt"}, "car_purchase"),
    ],
)
def test_worlds_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        replace(SMALL, **fields)


def organism(folder: str, *words: str) -> dict[str, float]:
    """Metrics of a base that is trained as shipped, nothing edited."""
    told = ["world=rules_tiny", "method=noop", "gold.n=0", "logger=none", "trainer.progress=false"]
    paths = [f"paths.cache={folder}/cache", f"paths.runs={folder}/runs"]
    chosen = "metric=[base_recall,fact_accuracy,paraphrase_heldout]"
    (cell,) = check(parse([*told, chosen, *words, *paths], config_dir())).cells
    result = run(cell.experiment)
    assert result.status == "ok", result.error
    return {name: metric["base"]["value"] for name, metric in result.metrics.items() if metric["base"]}


@pytest.mark.slow
@pytest.mark.parametrize("explanation", ["none", "unfaithful"])
def test_a_trained_organism_passes_the_gate(tmp_path, explanation):
    found = organism(str(tmp_path), f"world.explanation={explanation}", "evaluate.facts=1000")
    assert found["fact_accuracy/holdout"] > GATE
    assert found["paraphrase_heldout/forget"] > GATE  # in the format of evaluation
