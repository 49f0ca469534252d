"""What is observed of a small organism, and the metrics that read it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from experiments import quick

from unlearn_cli import run
from unlearn_cli.cli import main
from unlearn_cli.evaluation import Bootstrap, Evaluation
from unlearn_cli.methods.noop import Noop
from unlearn_cli.metrics.pando_field_f1 import PandoFieldF1
from unlearn_cli.metrics.pando_heldout_accuracy import PandoHeldoutAccuracy
from unlearn_cli.metrics.pando_signal import PandoSignal, auc_of_records
from unlearn_cli.observations.base import Unobservable
from unlearn_cli.observations.field_scores import TOOLS, FieldScores
from unlearn_cli.observations.relevance import relp
from unlearn_cli.observations.saliency import gradients, lens_logits
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study
from unlearn_cli.training.recipe import Train
from unlearn_cli.worlds.decision_trees import sensitivity
from unlearn_cli.worlds.rules import Rules

ORGANISM = Rules(depth=1, int_bins=4, records=1500, holdout_records=300, formats=2)


def organism(folder, **changes):
    """An experiment on a rule of depth 1; its model follows the rule after two seconds of training."""
    experiment = quick(folder, world=ORGANISM, method=Noop(), **changes)
    train = Train(batch_size=100, matrix_lr=0.02, decay_passes=8.0, max_passes=8.0, check_every=10, min_recall=0.9)
    return replace(experiment, train=train, gold=replace(experiment.gold, n=0))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study.of(organism(tmp_path_factory.mktemp("organism")))


def untrained(study):
    return study.experiment.model.build(study.world.vocabulary.size, study.world.max_length, 0).eval()


@pytest.fixture(scope="module")
def observed(study):
    return dict(FieldScores(n=40).observe(untrained(study), scene_of(study)))


def test_records_are_reserved_ones_on_which_the_model_follows_its_rule(study, observed):
    rules, facts = study.world.rules, study.world.facts
    assert len(observed["followed"]) == 300
    assert set(observed["asked"]) == set(facts.subject[facts.holdout])
    followed = set(observed["asked"][observed["followed"]])
    assert set(observed["subject"]) <= followed
    assert (observed["values"] == rules.records[observed["subject"]]).all()
    assert (observed["decision"] == rules.tree(observed["values"])).all()
    assert observed["decision"].sum() * 2 == len(observed["decision"]) <= 40
    assert set(np.flatnonzero(observed["relevant"])) == set(rules.tree.fields)
    assert (observed["relevant"] == (sensitivity(rules.tree, rules.scenario) > 0.01)).all()


def test_a_fields_score_is_about_its_own_tokens(study, observed):
    """Written out by hand for one record: where its name and its value stand in the format that is never trained."""
    world, model = study.world, untrained(study)
    fact = np.flatnonzero((world.facts.subject == observed["subject"][5]) & (world.facts.relation == 0))
    sentences = world.sentences(fact, world.language.phrasings.heldout[:1])
    read = int(sentences.answer_start[0]) - 1
    ids = torch.from_numpy(sentences.input_ids[:, : read + 1])
    answers = world.candidates(0)[:, 0]
    gap, place = (int(answers[1]), int(answers[0])), torch.tensor([read])
    plain = gradients(model, ids, place, gap)[1][0].norm(dim=-1)
    with relp(model):
        propagated = gradients(model, ids, place, gap)[1][0].norm(dim=-1)
    texts = [world.vocabulary.surface()[token] for token in ids[0].tolist()]
    for number, field in enumerate(world.rules.scenario.fields):
        value = field.values[observed["values"][5, number]]
        at = [texts.index(field.name), texts.index(f"{field.name}:{value}")]
        assert at[1] == at[0] + 1
        assert observed["gradient"][5, number] == pytest.approx(plain[at].sum().item(), rel=1e-4)
        assert observed["relp"][5, number] == pytest.approx(propagated[at].sum().item(), rel=1e-4)
        lens = lens_logits(model, ids, place, ids[:, at[:1]])
        assert observed["logit_lens"][5, number] == pytest.approx(lens.item(), rel=1e-4, abs=1e-4)
    assert (world.rules.tree(observed["values"][5:6]) == observed["decision"][5]).all()


def test_batches_change_nothing_beyond_rounding(study, observed):
    parts = FieldScores(n=40).observe(untrained(study), replace(scene_of(study), batch_size=7))
    for name, array in observed.items():
        np.testing.assert_allclose(array.astype(float), parts[name].astype(float), atol=1e-4)


def test_a_model_that_says_yes_to_all_has_no_task(study):
    model = untrained(study)
    yes = int(study.world.candidates(0)[1, 0])
    head = model.get_output_embeddings().weight.data
    head.zero_()
    model.gpt_neox.final_layer_norm.bias.data.fill_(1.0)
    head[yes] = 1.0
    with pytest.raises(Unobservable, match=r"follows its rule on \d+ yes and 0 no of 300 records"):
        FieldScores(n=40).observe(model, scene_of(study))


def test_a_world_without_rules_or_reserved_records_has_no_task(study, tmp_path):
    other = Study.of(quick(tmp_path))
    with pytest.raises(Unobservable, match="no hidden decision rule"):
        FieldScores(n=40).observe(untrained(other), scene_of(other))
    bare = Study.of(replace(organism(tmp_path), world=replace(ORGANISM, holdout_records=0)))
    with pytest.raises(Unobservable, match="holdout_records = 0"):
        FieldScores(n=40).observe(untrained(bare), scene_of(bare))


def evaluation(study, arrays, metric, base=None):
    """An evaluation whose edited model was observed so."""
    seen = {("edited", metric.observed): (arrays,)} | ({("base", metric.observed): (base,)} if base else {})
    return Evaluation(study.probes, {}, {}, {}, Bootstrap(samples=100), observed=seen)


def told(arrays, **scores):
    """The same records with scores of our choice."""
    return arrays | {tool: scores.get(tool, np.zeros_like(arrays["gradient"])) for tool in TOOLS}


def test_the_signal_is_the_area_of_each_record(study, observed):
    from sklearn.metrics import roc_auc_score

    relevant = np.arange(10) % 3 == 0
    scores = np.random.default_rng(0).normal(size=(6, 10)).round(1)
    expected = [roc_auc_score(relevant, row) for row in scores]
    np.testing.assert_allclose(auc_of_records(scores, relevant), expected)
    inside = observed["relevant"].astype(float)[None].repeat(len(observed["subject"]), 0)
    metric = PandoSignal(n=40)
    values = metric.compute(evaluation(study, told(observed, gradient=inside, relp=-inside), metric))
    assert [values[f"pando_signal/auc/{tool}"].edited.value for tool in TOOLS] == [1.0, 0.0, 0.5]
    every = told(observed) | {"relevant": np.ones(10, dtype=bool)}
    value = metric.compute(evaluation(study, every, metric))["pando_signal/auc/relp"]
    assert value.status == "skipped"


def test_an_oracle_tool_gains_and_a_silent_one_gains_nothing(study, observed):
    inside = observed["relevant"].astype(float)[None].repeat(len(observed["subject"]), 0)
    arrays = told(observed, gradient=inside)
    metric = PandoHeldoutAccuracy(n=40, k=3, iterations=2000, draws=6, sweep=[6, 60])
    values = metric.compute(evaluation(study, arrays, metric, base=told(observed)))
    gains = {tool: values[f"pando_heldout_accuracy/gain/{tool}"].edited.value for tool in TOOLS}
    assert gains["gradient"] > 0.05
    assert gains["relp"] == gains["logit_lens"] == 0.0
    assert values["pando_heldout_accuracy/gain/gradient"].base.value == 0.0
    assert values["pando_heldout_accuracy/follows_rule"].edited.value == observed["followed"].mean()
    accuracy = values["pando_heldout_accuracy/gradient"].edited
    assert accuracy.value == pytest.approx(
        values["pando_heldout_accuracy/sample_only"].edited.value + gains["gradient"]
    )
    assert accuracy.ci[0] < accuracy.value < accuracy.ci[1]
    assert values["pando_heldout_accuracy/k_6/gradient"].edited.n <= len(observed["subject"])
    assert "60 are labelled" in values["pando_heldout_accuracy/k_60/relp"].reason
    named = PandoFieldF1(n=40, k=3, iterations=2000, draws=6)
    f1 = named.compute(evaluation(study, arrays, named))
    assert f1["pando_field_f1/gain/gradient"].edited.value > 0.1
    assert f1["pando_field_f1/gain/relp"].edited.value == 0.0
    assert f1["pando_field_f1/gradient/f1"].edited.n == 6


METRICS = {
    "accuracy": PandoHeldoutAccuracy(iterations=2000),
    "f1": PandoFieldF1(iterations=2000),
    "signal": PandoSignal(),
}


def test_a_trained_organism_end_to_end(tmp_path):
    """Its rule is known to the model, to no more than chance to the majority, and shows in the gradient."""
    found = run(organism(tmp_path, metric=METRICS)).metrics
    value = {key: item["value"] for key, item in found.items()}
    assert all(item["status"] == "ok" for item in found.values())
    assert value["pando_heldout_accuracy/follows_rule"] > 0.95
    assert value["pando_heldout_accuracy/sample_only"] > 0.8
    assert 0.4 < value["pando_heldout_accuracy/majority"] < 0.52
    assert value["pando_signal/auc/gradient"] > 0.6
    assert value["pando_signal/auc/relp"] > 0.6
    assert all(item["base"]["value"] == item["value"] for item in found.values()), "noop changes nothing"


def test_where_there_is_no_rule_each_metric_is_skipped_with_the_reason(tmp_path):
    found = run(quick(tmp_path, method=Noop(), metric=METRICS)).metrics
    assert {key: (item["status"], item["reason"]) for key, item in found.items()} == dict.fromkeys(
        METRICS, ("skipped", "this world has no hidden decision rule")
    )


@pytest.mark.slow
def test_what_the_tools_gain_on_the_shipped_organism(tmp_path, capfd):
    """Reported, not asserted: whether a tool helps is what is asked."""
    metrics = ",".join(("pando_heldout_accuracy", "pando_field_f1", "pando_signal"))
    words = ["world=rules_tiny", "method=noop", "gold.n=0", "logger=none", f"metric=[{metrics}]"]
    assert main([*words, f"paths.cache={tmp_path / 'cache'}", f"paths.runs={tmp_path / 'runs'}"]) == 0
    (result,) = (tmp_path / "runs").rglob("result.json")
    value = {key: item["value"] for key, item in json.loads(result.read_text())["metrics"].items()}
    with capfd.disabled():
        print({key: round(number, 3) for key, number in value.items() if "gain" in key or "auc" in key})
    assert value["pando_heldout_accuracy/follows_rule"] > 0.95
    assert value["pando_heldout_accuracy/sample_only"] > value["pando_heldout_accuracy/nearest_neighbour"]
