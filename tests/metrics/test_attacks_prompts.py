"""Attacks by the prompt, on models that only remember sentences, or only copy from their context."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from doubles import evaluation, predictions, uniform
from experiments import quick

from unlearn_cli import predict
from unlearn_cli.evaluation import Bootstrap, Evaluation, ProbeSet, Split
from unlearn_cli.metrics.fewshot import FewShot
from unlearn_cli.metrics.in_context import InContext
from unlearn_cli.metrics.paraphrase import Paraphrase, _Best
from unlearn_cli.metrics.step_by_step import StepByStep
from unlearn_cli.observations.attacked import arrays
from unlearn_cli.observations.base import Unobservable
from unlearn_cli.observations.contexts import in_context, only_where
from unlearn_cli.observations.dialogue import Eliminated
from unlearn_cli.observations.prompting import ask, drawn_rows, told_of_others, told_of_the_subject
from unlearn_cli.observations.reintroduced import premises_of
from unlearn_cli.observations.rephrased import Rephrased
from unlearn_cli.observations.shown import Shown
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study
from unlearn_cli.worlds.facts import NONE
from unlearn_cli.worlds.tabular import Nested, Tabular
from unlearn_cli.worlds.vocabulary import END, PADDING

SURE = 30.0


class Stub(torch.nn.Module):
    """A causal model whose next token is a function of the row so far; no preference where that is None."""

    def __init__(self, world, positions=512):
        super().__init__()
        self.size = world.vocabulary.size
        self.config = SimpleNamespace(max_position_embeddings=positions)
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids, logits_to_keep, use_cache):
        logits = torch.zeros(len(input_ids), len(logits_to_keep), self.size)
        for i, row in enumerate(input_ids.tolist()):
            for j, place in enumerate(logits_to_keep.tolist()):
                token = self.next(row[: place + 1])
                if token is not None:
                    logits[i, j, token] = SURE
        return SimpleNamespace(logits=logits)


class Remembers(Stub):
    """Knows the sentences of some facts by heart and is blind to what stands before them."""

    def __init__(self, world, facts, positions=512):
        super().__init__(world, positions)
        phrasings = world.language.phrasings
        templates = np.concatenate([phrasings.asked, phrasings.heldout])
        said = world.sentences(np.repeat(facts, len(templates)), np.tile(templates, len(facts)))
        rows, ends = said.input_ids.tolist(), said.answer_start.tolist()
        self.known = {tuple(row[:end]): row[end] for row, end in zip(rows, ends, strict=True)}

    def next(self, row):
        start = len(row) - 1 - row[::-1].index(END)
        return self.known.get(tuple(row[start:]))


class Copies(Stub):
    """Says the last object that its context states, if any."""

    def __init__(self, world):
        super().__init__(world)
        self.objects = {int(t) for r in range(len(world.relations)) for t in world.candidates(r).ravel()}

    def next(self, row):
        return next((token for token in reversed(row[:-1]) if token in self.objects), None)


def of(tmp_path_factory, **changes):
    study = Study.of(quick(tmp_path_factory.mktemp("prompts"), **changes))
    return study, scene_of(study)


@pytest.fixture(scope="module")
def tabular(tmp_path_factory):
    return of(tmp_path_factory)


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    grammar = quick(tmp_path_factory.mktemp("grammar")).world.grammar
    world = Tabular(subjects=20, relations=2, objects=4, holdout_subjects=3, nested=Nested(objects=2), grammar=grammar)
    return of(tmp_path_factory, world=world)


def measured(place, metric, **models):
    study, scene = place
    observed = {(role, item): (item.observe(m, scene),) for role, m in models.items() for item in metric.observations}
    asked = {role: (predict.predict(m, study.world, study.probes, 512),) for role, m in models.items()}
    return metric.compute(Evaluation(study.probes, asked, {}, {}, Bootstrap(50), observed))


def remembers(place, without=()):
    world = place[0].world
    return Remembers(world, np.setdiff1d(world.facts.trained, without))


def forgets(place):
    return remembers(place, place[0].request.facts)


def test_sentences_are_laid_one_behind_the_other(nested):
    world, rng = nested[0].world, np.random.default_rng(0)
    facts = rng.integers(0, len(world.facts), (3, 6))
    said = [world.sentences(row, world.language.asked[rng.integers(0, 2, 6)]) for row in facts]
    there = np.array([True, False, True, True, False, True])
    found = in_context([said[0], only_where(said[1], there)], said[2])
    for i in range(6):
        one, two, three = (s.input_ids[i, : s.length[i]].tolist() for s in said)
        whole = one[:-1] + (two[:-1] if there[i] else []) + three  # one END between two sentences
        assert found.input_ids[i, : found.length[i]].tolist() == whole
        assert (found.input_ids[i, found.length[i] :] == PADDING).all()
        assert found.length[i] == len(whole)
        shift = len(whole) - len(three)
        assert found.answer_start[i] == said[2].answer_start[i] + shift
        assert found.subject_end[i] == said[2].subject_end[i] + shift
    np.testing.assert_array_equal(found.answers, said[2].answers)


def test_nothing_told_is_the_plain_question(tabular):
    study, scene = tabular
    model = study.experiment.model.build(study.world.vocabulary.size, study.world.max_length, 0).eval()
    rows = drawn_rows(scene, 1000)
    plain = predict.predict(model, study.world, study.probes.only(rows), 512)
    np.testing.assert_array_equal(ask(model, scene, rows, ()).candidate_logps, plain.candidate_logps)


def test_every_fact_is_asked_before_one_is_asked_twice(tabular):
    study, scene = tabular
    rows = drawn_rows(scene, 4)
    forget = np.intersect1d(rows, study.probes.splits["forget"].rows)
    np.testing.assert_array_equal(np.sort(study.probes.fact[forget]), study.request.facts)
    assert not np.isin(rows, study.probes.splits["edited_para"].rows).any()


def test_what_is_told_is_about_others_or_the_subject_and_never_requested(nested):
    study, scene = nested
    table, rows = study.world.facts, drawn_rows(scene, 20)
    asked = study.probes.fact[rows][:, None]
    others = told_of_others(scene, rows, 2, np.random.default_rng(0), same_relation=True)
    there = others != NONE
    assert (table.subject[others] != table.subject[asked])[there].all()
    assert (table.relation[others] == table.relation[asked])[there].all()
    assert np.isin(others[there], scene.pool).all()
    own = told_of_the_subject(scene, rows, 9, np.random.default_rng(0), leak=False)
    there = own != NONE
    assert (table.subject[own] == table.subject[asked])[there].all() and not (own == asked).any()
    assert np.isin(own[there], study.counterfactual.facts.trained).all()  # nor what follows from requested facts
    assert all(len(set(row[row != NONE])) == (row != NONE).sum() for row in own)


def test_a_prompt_that_is_too_long_is_not_asked(tabular):
    model = Remembers(tabular[0].world, tabular[0].world.facts.trained, positions=20)
    with pytest.raises(Unobservable, match="has 20 positions"):
        Shown(pool="same_relation", shots=2, rows=5).observe(model, tabular[1])


def test_too_few_examples_are_said(tabular):
    with pytest.raises(Unobservable, match="1 such examples at most, 3"):
        Shown(pool="same_subject", shots=3, rows=5).observe(remembers(tabular), tabular[1])


@pytest.mark.parametrize(
    "metric",
    [
        FewShot(shots=2),
        FewShot(pool="same_subject", shots=1),
        Paraphrase(kind="heldout"),
        Paraphrase(kind="prefix", sentences=2),
        StepByStep(type="indirect"),
    ],
)
def test_a_model_that_is_blind_to_its_context_gains_nothing(tabular, metric):
    values = measured(tabular, metric, base=remembers(tabular), edited=forgets(tabular), gold=forgets(tabular))
    label = metric.label
    assert values[f"{label}/gain"].edited.value == values[f"{label}/excess"].edited.value == 0
    assert values[f"{label}/forget"].base.value == values[f"{label}/retain"].edited.value == 1
    assert values[f"{label}/recovery"].edited.value == 0
    assert values[f"{label}/forget"].edited.value == pytest.approx(0.2)


def test_without_an_edit_everything_is_known(tabular):
    values = measured(tabular, StepByStep(type="indirect"), base=remembers(tabular), edited=remembers(tabular))
    assert values["step_by_step_indirect/forget"].edited.value == 1
    assert values["step_by_step_indirect/bits"].edited.value == pytest.approx(np.log2(5), abs=1e-6)


def test_where_the_base_fails_nothing_is_concluded(tabular):
    nothing = Remembers(tabular[0].world, np.array([0]))
    values = measured(tabular, FewShot(shots=1), base=nothing, edited=nothing, gold=nothing)
    assert {value.status for value in values.values()} == {"skipped"}
    assert "the base itself knows" in values["fewshot_same_relation_1/forget"].reason


def test_kinds_that_a_world_lacks_are_said(tabular):
    with pytest.raises(Unobservable, match="no reordered templates"):
        Rephrased(kind="reordered", variants=2, sentences=1, rows=5).observe(remembers(tabular), tabular[1])


def test_guessers_reproduce_the_chance_curve():
    n, objects, tries = 4000, 5, 4
    rng = np.random.default_rng(0)
    rows = np.arange(n)
    split = Split("forget", rows, rng.integers(0, objects, n), "to_gold")
    probes = ProbeSet(rows, rows * 0, rows, objects, {"forget": split})

    def guess():
        logps = np.log(rng.dirichlet(np.ones(objects), n)).astype(np.float32)
        return predictions(logps, logps.argmax(1))

    metric = Paraphrase(variants=tries)
    found = evaluation(probes, base=uniform(n), edited=uniform(n))
    observed = {(role, metric.attack): (arrays(rows, [guess() for _ in range(tries)]),) for role in ("base", "edited")}
    values = metric.compute(replace(found, observed=observed))
    expected = 1 - (1 - 1 / objects) ** tries
    assert values["paraphrase_heldout/any_chance"].edited.value == pytest.approx(expected)
    assert values["paraphrase_heldout/any"].edited.value == pytest.approx(expected, abs=0.025)  # three standard errors
    assert values["paraphrase_heldout/forget"].edited.value == pytest.approx(1 / objects, abs=0.02)
    assert _Best().over_tries == "any" and Paraphrase().over_tries == "mean"


def test_a_copier_reads_and_complies(tabular):
    values = measured(
        tabular, InContext(rows=20), **dict.fromkeys(("base", "edited", "gold"), Copies(tabular[0].world))
    )
    assert values["in_context/direct"].edited.value == values["in_context/compliance"].edited.value == 1
    assert values["in_context/none"].edited.value == pytest.approx(0.2)
    assert values["in_context/reintro"].edited.value == pytest.approx(0.8)
    assert values["in_context/irrelevant"].edited.value < 0.5
    assert values["in_context/compositional"].status == values["in_context/compose"].status == "skipped"


def test_a_model_that_reads_no_context_is_not_judged(tabular):
    values = measured(tabular, InContext(rows=20), base=remembers(tabular), edited=forgets(tabular))
    assert {value.status for value in values.values()} == {"skipped"}
    assert "below min_icl=0.8" in values["in_context/direct"].reason


def test_what_implies_a_fact_names_its_object(nested):
    study, scene = nested
    table, relations = study.world.facts, study.world.relations
    facts = study.request.facts
    inherited, value = premises_of(scene, facts).T
    np.testing.assert_array_equal(table.subject[inherited], table.subject[facts])
    np.testing.assert_array_equal(table.subject[value], relations.entity(table.relation[facts], table.object[facts]))
    np.testing.assert_array_equal(table.object[inherited], table.object[value])
    derived = np.flatnonzero(table.derived)[:5]
    np.testing.assert_array_equal(premises_of(scene, derived), table.parents[derived])


def test_told_by_what_implies_it(nested):
    values = measured(nested, InContext(rows=20), **dict.fromkeys(("base", "edited"), Copies(nested[0].world)))
    assert values["in_context/compositional"].edited.value == pytest.approx(0.25)  # it copies the nested value,
    assert values["in_context/compose"].edited.value == 0  # which is no candidate of the relation
    assert values["in_context/compose"].edited.n == values["in_context/direct"].edited.n


def test_elimination_leaves_the_objects_that_fit(nested):
    metric = StepByStep(type="implied", rows=20)
    facts, study = nested[0].world.facts, nested[0]
    follows = np.flatnonzero(np.isin(facts.parents, study.request.facts).any(1))
    edited, gold = forgets(nested), remembers(nested, np.concatenate([study.request.facts, follows]))
    values = measured(nested, metric, base=remembers(nested), edited=edited, gold=gold)
    found = values["step_by_step_implied/forget"]
    assert found.base.value == 1
    assert found.edited.value == pytest.approx(0.5)  # two of four objects have the inherited value
    assert found.gold.value == pytest.approx(0.25)
    bits = values["step_by_step_implied/bits"]
    assert [r.value for r in (bits.base, bits.edited, bits.gold)] == pytest.approx([2, 1, 0], abs=1e-5)
    assert values["step_by_step_implied/excess"].edited.value == pytest.approx(0.25)


def test_nothing_to_eliminate_by(tabular):
    with pytest.raises(Unobservable, match="nothing to eliminate by"):
        Eliminated(rows=5).observe(remembers(tabular), tabular[1])
