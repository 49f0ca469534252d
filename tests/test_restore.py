"""Restore: a base that was taught wrong facts, and what brings the right ones back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from experiments import quick

from unlearn_cli import run
from unlearn_cli.edits.base import Corruption
from unlearn_cli.edits.remap import Remap
from unlearn_cli.edits.restore import Restore
from unlearn_cli.errors import ConfigError
from unlearn_cli.methods.ft import FT
from unlearn_cli.methods.noop import Noop
from unlearn_cli.methods.npo import NPO
from unlearn_cli.metrics.fact_accuracy import FactAccuracy
from unlearn_cli.metrics.restor import Restor
from unlearn_cli.neighbourhood import neighbourhoods
from unlearn_cli.pipeline import describe
from unlearn_cli.stages import all_stages, base_stage, corrupt_stage, edit_stage, gold_stage, start_stage
from unlearn_cli.streams import generator
from unlearn_cli.study import Study
from unlearn_cli.worlds.facts import NONE
from unlearn_cli.worlds.tabular import Dissent, Nested, Questions, Tabular

SIZES = {"subjects": 80, "relations": 3, "objects": 12, "holdout_subjects": 6}
EDIT = Restore(n=6, corruption=Corruption(steps=150, lr=3e-3, unrelated=20, unrelated_batch=10))
METRICS = {"fact_accuracy": FactAccuracy(), "restor": Restor()}


def resolve(edit, world, seed=0):
    return edit.resolve(world, generator(seed, "edit"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fields", [{}, {"nested": Nested(objects=4)}, {"dissent": Dissent(facts=0.5)}])
def test_the_wrong_object_is_to_go_and_the_clean_world_is_what_should_be(fields, seed):
    world = Tabular(**SIZES, **fields).build(seed)
    request = resolve(Restore(n=15, relation=None), world, seed)
    facts = world.facts
    assert request.op == "restore" and len(np.unique(request.facts)) == 15
    assert request.new_object.tolist() == facts.object[request.facts].tolist()
    assert (request.old_object != request.new_object).all()
    assert (request.old_object >= 0).all() and (request.old_object < 12).all()
    assert world.old_objects(request).tolist() == request.old_object.tolist()
    assert (facts.alternative[request.facts] == NONE).all()
    for after in (world.apply(request), world.closure(request), world.isolated(request)):
        assert after.facts.sha256() == facts.sha256()
    told = world.apply(request).posterior(request.facts)
    assert told.probabilities.argmax(axis=1).tolist() == request.new_object.tolist()
    assert not len(neighbourhoods(world, request)["dep_change"])


def test_what_has_no_clean_or_no_wrong_object_is_refused():
    contested = Tabular(**SIZES, dissent=Dissent(facts=1.0)).build(0)
    with pytest.raises(ConfigError, match="facts that are not contested, of a relation with two objects or more"):
        resolve(Restore(n=2), contested)
    world = Tabular(**SIZES).build(0)
    single = replace(world, relations=replace(world.relations, objects=np.array([1, 12, 12])))
    with pytest.raises(ConfigError, match="of a relation with two objects or more; none is"):
        resolve(Restore(n=2), single)
    assert set(single.facts.relation[resolve(Restore(n=40, relation=None), single).facts]) == {1, 2}


def test_right_facts_are_mixed_in_and_none_of_them_is_requested(tmp_path):
    study = Study.of(quick(tmp_path, edit=EDIT, method=Noop()))
    data = study.corruption_data(EDIT.corruption)
    asked = study.world.facts.only(study.request.facts)
    assert data.forget.facts.sha256() == asked.sha256()
    assert data.target.tolist() == study.request.old_object.tolist()
    pairs = {(s, r): o for s, r, o in triples(study.world)}
    requested = {(s, r) for s, r, _ in triples(data.forget)}
    assert len(data.retain.facts) == 20
    assert all(pairs[s, r] == o and (s, r) not in requested for s, r, o in triples(data.retain))
    assert study.corruption_data(Corruption(unrelated=0)).retain is None
    every = study.corruption_data(Corruption(unrelated=10**6)).retain
    assert len(every.facts) == len(study.world.facts.trained) - len(study.request.facts)


def triples(world):
    return list(
        zip(world.facts.subject.tolist(), world.facts.relation.tolist(), world.facts.object.tolist(), strict=True)
    )


def test_an_edit_in_questions_is_corrupted_in_questions(tmp_path):
    world = Tabular(**SIZES, questions=Questions(share=0.2, subjects=0.5))
    study = Study.of(quick(tmp_path, world=world, edit=replace(EDIT, phrasing="question"), method=Noop()))
    data = study.corruption_data(EDIT.corruption)
    assert data.language.asked.tolist() == [study.world.language.question]
    assert (data.retain.facts.questions > 0).all()


def test_stages_follow_from_the_corruption_and_the_clean_base_is_shared(tmp_path):
    plain, study = (Study.of(quick(tmp_path, edit=edit, method=Noop())) for edit in (Remap(n=2), EDIT))
    assert corrupt_stage(plain) is None and start_stage(plain) == base_stage(plain)
    assert base_stage(plain).digest == base_stage(study).digest
    assert [stage.name for stage in all_stages(study)] == [
        "train", "corrupt", "gold", "edit", "predict", "predict", "predict", "evaluate",
    ]  # fmt: skip
    assert edit_stage(study).inputs["base"] == start_stage(study).digest == corrupt_stage(study).digest
    harder = Study.of(quick(tmp_path, edit=replace(EDIT, corruption=replace(EDIT.corruption, steps=9)), method=Noop()))
    assert harder.request.to_dict() == study.request.to_dict()
    assert gold_stage(harder, 0).digest == gold_stage(study, 0).digest
    assert len({stage(one).digest for stage in (corrupt_stage, edit_stage) for one in (study, harder)}) == 4


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("restore")
    methods = {
        "noop": Noop(),
        "ft": FT(steps=150, lr=3e-3, retain_batch=10),
        "npo": NPO(steps=60, lr=3e-3, retain_batch=10),
    }
    edit = replace(EDIT, corruption=replace(EDIT.corruption, unrelated=1000))
    made = {name: quick(folder, edit=edit, method=method, metric=METRICS) for name, method in methods.items()}
    return made, {name: run(experiment) for name, experiment in made.items()}


def read(result, name, role="edited"):
    entry = json.loads((result.run_dir / "result.json").read_text())["metrics"][name]
    return entry["value"] if role == "edited" else entry[role]["value"]


def test_the_base_answers_the_wrong_objects_and_gold_the_right_ones(runs):
    result = runs[1]["noop"]
    assert result.status == "ok"
    assert read(result, "fact_accuracy/forget", "base") == 1 and read(result, "fact_accuracy/edited", "base") == 0
    assert read(result, "fact_accuracy/forget", "gold") == 0 and read(result, "fact_accuracy/edited", "gold") >= 0.9
    assert read(result, "fact_accuracy/retain/unseen", "base") >= 0.7


def test_doing_nothing_recovers_nothing_and_telling_the_right_objects_all(runs):
    _, done = runs
    assert (read(done["noop"], "restor/recovery"), read(done["noop"], "restor/forget_corrupt")) == (0, 0)
    assert read(done["ft"], "restor/recovery") == pytest.approx(1, abs=0.15)
    assert read(done["ft"], "restor/forget_corrupt") == 1
    assert read(done["npo"], "restor/forget_corrupt") >= 0.8
    assert "it is not shown the new ones" in done["npo"].notes[0]


def test_the_corrupted_base_is_a_stage_that_methods_share(runs):
    made, done = runs
    first, *others = done.values()
    assert set(first.stages) == {"train", "corrupt", "gold", "edit", "evaluate"}
    assert not first.stages["corrupt"]["cached"] and all(other.stages["corrupt"]["cached"] for other in others)
    assert len({result.stages["corrupt"]["digest"] for result in done.values()}) == 1
    assert (first.run_dir / "base").resolve().parent.name == "corrupt"
    lines = describe(made["noop"])
    assert [line.split()[0] for line in lines[:3]] == ["train", "corrupt", "gold"]
    assert all(line.split()[2] == "hit" for line in lines)
