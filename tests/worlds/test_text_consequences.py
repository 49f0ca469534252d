"""What files say that follows from a request: the truth after it, the questions asked, the share that follows."""

import json

import numpy as np
from text_samples import checkpoint, composed

from unlearn_cli.evaluation import OTHER, Evaluation, Predictions
from unlearn_cli.metrics.dependent_facts import DependentFacts
from unlearn_cli.pipeline import run
from unlearn_cli.splits import ProbeSizes, build_probes
from unlearn_cli.study import Study
from unlearn_cli.worlds.facts import NONE, REFUSAL
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.text.build import Reading, build
from unlearn_cli.worlds.text.items import Item

FRANCE = Item("forget", "The capital of France is", "Paris", "Rome", relation="capital")
PERU = Item("forget", "The capital of Peru is", "Lima", "Cusco", relation="capital")
RIVER = Item(
    "consequence", "The river of France's capital is", "Seine", "Tiber", paraphrases=["Which river?", "River:"],
    relation="consequence", causes=[FRANCE.key],
)  # fmt: skip
BOTH = Item("consequence", "Are they far?", "far", "near", relation="consequence", causes=[FRANCE.key, PERU.key])
KEPT = Item("retain", "The capital of Chad is", "N'Djamena", relation="capital")
WORLD = build([FRANCE, PERU, RIVER, BOTH, KEPT], Reading(None, "bare", "unknown", 4), exposure=3, seed=0)
NEW = WORLD.given.new_object


def said(world, fact):
    table = world.facts
    return world.language.text(int(table.relation[fact]), int(table.object[fact]))


def request(op, *facts):
    places = np.array(facts)
    return EditRequest(op, places, None if op == "forget" else NEW[places])


def test_a_consequence_holds_once_all_its_causes_do():
    after_one, after_both = WORLD.apply(request("remap", 0)), WORLD.apply(request("remap", 0, 1))
    assert [said(after_one, fact) for fact in range(5)] == ["Rome", "Lima", "Tiber", "far", "N'Djamena"]
    assert [said(after_both, fact) for fact in range(5)] == ["Rome", "Cusco", "Tiber", "near", "N'Djamena"]
    assert said(after_one.apply(request("remap", 1)), 3) == "near"  # one after the other
    assert [said(WORLD.isolated(request("remap", 0, 1)), fact) for fact in (0, 2)] == ["Rome", "Seine"]
    other = EditRequest("remap", np.array([0]), WORLD.facts.object[[1]])  # to Lima: nobody said what follows from that
    assert said(WORLD.apply(other), 2) == "Seine"


def test_consequences_are_not_trained_on_and_belong_to_what_changes():
    assert WORLD.facts.exposure.tolist() == [3, 3, 0, 0, 3]
    for asked, changed, stays in (
        (request("remap", 0), [2], [3]),
        (request("remap", 0, 1), [2, 3], []),
        (request("forget", 0), [2, 3], []),
    ):
        probes = build_probes(WORLD, asked, np.array([4]), ProbeSizes(10, 1))
        assert np.unique(probes.fact[probes.splits["dep_change"].rows]).tolist() == changed
        kept = [probes.splits[f"dep_keep/{part}"].rows for part in ("seen", "unseen")]
        assert np.unique(probes.fact[np.concatenate(kept)]).tolist() == stays
        direction = "to_gold" if asked.op == "forget" else "higher"
        assert probes.splits["dep_change"].direction == direction
    assert WORLD.only(np.array([0, 2])).consequences is None


def test_a_consequence_is_asked_in_every_way_it_is_written():
    probes = build_probes(WORLD, request("remap", 0, 1), np.array([4]), ProbeSizes(10, 1))
    rows = probes.splits["dep_change_closure"].rows
    assert sorted(zip(probes.fact[rows].tolist(), probes.template[rows].tolist(), strict=True)) == [
        (2, 0), (2, 1), (2, 2), (3, 0),
    ]  # fmt: skip
    assert np.isin(probes.fact[probes.splits["edited"].rows], [0, 1]).all()
    assert set(probes.template[probes.splits["unrelated/seen"].rows]) <= {0}


def test_any_wording_counts_a_fact_once():
    """River in three ways, of which the base knows the first two; the edited model follows in the third only."""
    probes = build_probes(WORLD, request("remap", 0, 1), np.array([4]), ProbeSizes(10, 1))
    new, old = probes.splits["dep_change_closure"], probes.splits["dep_change_isolate"]
    river = new.rows[probes.fact[new.rows] == 2]
    river = river[np.argsort(probes.template[river])]
    far = new.rows[probes.fact[new.rows] == 3]

    def answering(rows, split):
        greedy = np.full(len(probes), OTHER)
        answer = dict(zip(split.rows.tolist(), split.answer.tolist(), strict=True))
        for row in rows:
            greedy[row] = answer[row]
        logps = np.full((len(probes), probes.objects), -1.0, dtype=np.float32)
        return Predictions(logps, greedy, np.full(len(probes), -9.0, dtype=np.float32))

    def read(known, given):
        predictions = {"base": (answering(known, old),), "edited": (answering(given, new),)}
        return DependentFacts().compute(Evaluation(probes, predictions, {}, {}))

    found = read([*river[:2], *far], river[2:])
    assert found["dependent_facts/any_wording"].edited.value == 0.5  # of river and far
    assert found["dependent_facts/any_wording"].edited.n == 2
    assert found["dependent_facts/propagated"].edited.value == 0  # of three prompts that the base knew
    assert found["dependent_facts/propagated"].edited.n == 3
    assert read(river[:2], river[2:])["dependent_facts/any_wording"].edited.value == 1
    assert read(river[:0], river)["dependent_facts/any_wording"].status == "skipped"


def test_of_what_follows_only_the_new_answer_may_be_known():
    alias = Item("consequence", "Its money is", None, "lira", relation="consequence", causes=[FRANCE.key])
    world = build([FRANCE, PERU, alias, KEPT, RIVER], Reading(None, "bare", "unknown", 4), exposure=3, seed=0)
    assert world.facts.object[2] == REFUSAL
    assert [world.language.text(1, place) for place in world.choices[2] if place != NONE] == ["lira", "Seine"]
    assert said(world.apply(request("remap", 0)), 2) == "lira"
    changed = build_probes(world, request("remap", 0), np.array([3]), ProbeSizes(10, 1)).splits["dep_change_closure"]
    assert {world.language.text(1, int(answer)) for answer in changed.answer} == {"lira", "Tiber"}
    forgotten = build_probes(world, request("forget", 0), np.array([3]), ProbeSizes(10, 1))
    assert set(forgotten.fact[forgotten.splits["dep_change"].rows].tolist()) == {4}


def test_mquake_from_the_file_to_the_result(tmp_path):
    rewrite = {
        "prompt": "The capital of {} is", "relation_id": "P36", "target_new": {"str": "Rome"},
        "target_true": {"str": "Paris"}, "subject": "France", "question": "Which is France's capital?",
    }  # fmt: skip
    case = {
        "requested_rewrite": [rewrite], "questions": ["Which river?", "River:", "The river is"], "answer": "Seine",
        "new_answer": "Tiber", "single_hops": [{"question": "?", "cloze": "Paris lies on the", "answer": "Seine"}],
    }  # fmt: skip
    file = tmp_path / "mquake.json"
    file.write_text(json.dumps([case]))
    folder = checkpoint(tmp_path / "model")
    words = [
        "world=edits",
        "retain.pool=1",
        f"world.forget={file}",
        f"model.path={folder}",
        "method=ft",
        "method.steps=2",
    ]
    experiment = composed(tmp_path, *words, "metric=[ripple,dependent_facts]")
    study = Study.of(experiment)
    asked = study.probes.splits["dep_change_closure"]
    relation = study.world.facts.relation[study.probes.fact[asked.rows]]
    spelled = [study.world.language.text(int(r), int(o)) for r, o in zip(relation, asked.answer, strict=True)]
    assert spelled == ["Tiber"] * 3
    metrics = run(experiment).metrics
    assert (metrics["ripple/damage"]["value"], metrics["ripple/damage"]["n"]) == (1, 3)  # a random model says neither
    assert "the base knows no fact" in metrics["dependent_facts/any_wording"]["reason"]
