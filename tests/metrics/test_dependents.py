"""What follows from an edit, travels with it, or is turned by it: shares by hand, and what a real chain observes."""

from dataclasses import replace

import numpy as np
import pytest
from doubles import O, evaluation, from_probabilities, mixed, oracle, predictions, shifted, uniform, world
from experiments import quick

from unlearn_cli.evaluation import Split
from unlearn_cli.metrics.answer_margin import AnswerMargin
from unlearn_cli.metrics.answer_nll import AnswerNll
from unlearn_cli.metrics.answer_rank import AnswerRank
from unlearn_cli.metrics.behemoth_splits import BehemothSplits
from unlearn_cli.metrics.candidate_accuracy import CandidateAccuracy
from unlearn_cli.metrics.correlated_facts import CorrelatedFacts
from unlearn_cli.metrics.dependent_facts import HOPS, DependentFacts
from unlearn_cli.metrics.forget_generalization import ForgetGeneralization
from unlearn_cli.metrics.hit_at import HitAt
from unlearn_cli.metrics.negative_flips import NegativeFlips
from unlearn_cli.metrics.portability import Portability
from unlearn_cli.metrics.reciprocal_rank import ReciprocalRank
from unlearn_cli.metrics.ripple_effects import RippleEffects
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study
from unlearn_cli.worlds.facts import NONE
from unlearn_cli.worlds.tabular import Nested, Tabular

PLAIN, OLD = world(remap=True)
N = len(OLD)
FORGET = PLAIN.splits["forget"]
TAKEN = PLAIN.splits["same_relation/unseen"].rows  # stands for what follows
NEW_VALUE = (OLD[TAKEN] + 2) % O


def with_splits(**more):
    """The doubles with further splits: name -> (rows, answers, direction)."""
    added = {name.replace("__", "/"): Split(name.replace("__", "/"), *found) for name, found in more.items()}
    return replace(PLAIN, splits={**PLAIN.splits, **added})


DEPENDENT = with_splits(
    dep_change=(TAKEN, NEW_VALUE, "higher"),
    dep_change_closure=(TAKEN, NEW_VALUE, "higher"),
    dep_change_isolate=(TAKEN, OLD[TAKEN], "descriptive"),
    bridge__unseen=(PLAIN.splits["unrelated/unseen"].rows, OLD[PLAIN.splits["unrelated/unseen"].rows], "higher"),
)


def answering(rows, answers, old=OLD):
    full = old.copy()
    full[rows] = answers
    return predictions(oracle(old).candidate_logps, full)


def edited_values(metric, probes, edited, base=None, **more):
    found = metric.compute(replace(evaluation(probes, base=base or oracle(OLD), edited=edited), **more))
    return {key.partition("/")[2]: value for key, value in found.items()}


def test_an_edit_that_reasons_and_one_that_only_rewrites():
    reasons = edited_values(DependentFacts(), DEPENDENT, answering(TAKEN, NEW_VALUE))
    rewrites = edited_values(DependentFacts(), DEPENDENT, oracle(OLD))
    assert [reasons[key].edited.value for key in ("propagated", "stale", "bridge_keep")] == [1, 0, 1]
    assert [rewrites[key].edited.value for key in ("propagated", "stale", "bridge_keep")] == [0, 1, 1]
    assert reasons["leak_2hop"].status == "skipped" and "changes or isolates" in reasons["leak_2hop"].reason


def test_only_chains_that_the_base_knew_count():
    base = mixed(oracle(OLD), shifted(OLD), TAKEN[:3])
    found = edited_values(DependentFacts(), DEPENDENT, answering(TAKEN[3:5], NEW_VALUE[3:5]), base=base)
    assert found["propagated"].edited.n == len(TAKEN) - 3
    assert found["propagated"].edited.value == pytest.approx(2 / (len(TAKEN) - 3))


def test_a_forgotten_fact_leaks_where_what_followed_from_it_is_still_answered():
    probes = with_splits(dep_change=(TAKEN, OLD[TAKEN], "to_gold"))
    found = edited_values(DependentFacts(), probes, answering(TAKEN[:4], -1))
    assert found["leak_2hop"].edited.value == pytest.approx(1 - 4 / len(TAKEN))
    assert found["leak_2hop"].direction == "to_gold"


def test_consistency_counts_chains_that_can_be_followed():
    rows = FORGET.rows[:5]
    arrays = {
        "rows": rows,
        "first": np.array([1, 2, -1, 3, 0]),
        "second": np.array([1, 1, NONE, -1, 4]),
        "asked": np.array([True, True, False, True, True]),
        "direct": np.array([1, 2, 1, -1, 4]),  # equal; not; no chain; equal, but no object; equal
    }
    found = edited_values(DependentFacts(), DEPENDENT, oracle(OLD), observed={("edited", HOPS): (arrays,)})
    assert found["consistency"].edited.value == 0.5
    assert found["consistency"].edited.n == 4


def test_hops_of_a_world_begin_with_requested_facts(tmp_path):
    """On an untrained model; the answers along the chain are asked anew, one by one."""
    from unlearn_cli import predict
    from unlearn_cli.evaluation import ProbeSet

    nested = Tabular(subjects=15, relations=2, objects=6, holdout_subjects=2, nested=Nested(objects=3))
    study = Study.of(quick(tmp_path, world=nested))
    w = study.world
    model = study.experiment.model.build(w.vocabulary.size, w.max_length, 0).eval()
    found = HOPS.observe(model, scene_of(study))
    assert found["rows"].tolist() == sorted(study.probes.splits["forget"].rows.tolist())

    def ask(fact, template):
        probe = ProbeSet(np.array([fact]), np.array([template]), w.facts.subject[[fact]], w.objects, splits={})
        return predict.predict(model, w, probe, 8).greedy[0]

    for i, row in enumerate(found["rows"][:6].tolist()):
        fact, template = study.probes.fact[row], study.probes.template[row]
        (child,) = np.flatnonzero(w.facts.parents[:, 0] == fact)
        assert ask(fact, template) == found["first"][i]
        assert ask(child, template) == found["direct"][i]
        assert w.relations.edge[w.facts.relation[child]] == "sn"
    plain = Study.of(quick(tmp_path))
    assert {len(values) for values in HOPS.observe(model, scene_of(plain)).values()} == {0}


def test_followed_hops_are_about_the_models_own_answer(tmp_path, monkeypatch):
    """A model that knows the world: both ways lead to the nested object of its own answer."""
    from unlearn_cli import predict

    nested = Tabular(subjects=15, relations=2, objects=6, holdout_subjects=2, nested=Nested(objects=3))
    study = Study.of(quick(tmp_path, world=nested))
    objects = study.world.facts.object

    def knows(model, world, probes, batch_size):
        answers = objects[probes.fact]
        return predictions(np.zeros((len(answers), world.objects), dtype=np.float32), answers)

    monkeypatch.setattr(predict, "predict", knows)
    found = HOPS.observe(None, scene_of(study))
    assert found["asked"].all()
    assert (found["direct"] == found["second"]).all()
    g = study.world.nesting.value
    relation = study.world.facts.relation[study.probes.fact[found["rows"]]]
    assert (found["second"] == g[relation, found["first"]]).all()


def test_correlated_partners_keep_and_spill():
    rows = FORGET.rows  # the partner is of the same subject
    probes = with_splits(
        correlated_partner__unseen=(TAKEN, OLD[TAKEN], "higher"),
        correlated_partner_converted=(TAKEN, NEW_VALUE, "descriptive"),
    )
    probes = replace(probes, subject=np.where(np.isin(np.arange(N), TAKEN), 1, probes.subject))
    found = edited_values(CorrelatedFacts(), probes, answering(TAKEN[:3], NEW_VALUE[:3]))
    n = len(TAKEN)
    assert found["keep"].edited.value == pytest.approx(1 - 3 / n)
    assert found["spill"].edited.value == found["spill_change"].edited.value == pytest.approx(3 / n)
    old_of_subject_1 = OLD[rows[probes.subject[rows] == 1][0]]
    assert found["keep/agree"].edited.n == (OLD[TAKEN] == old_of_subject_1).sum()
    assert found["keep/differ"].edited.n == (OLD[TAKEN] != old_of_subject_1).sum()
    same = edited_values(CorrelatedFacts(), probes, oracle(OLD))
    assert same["spill_change"].edited.value == 0


def test_flips_add_up():
    base = mixed(oracle(OLD), shifted(OLD), PLAIN.splits["unrelated/unseen"].rows[:8])
    edited = mixed(oracle(OLD), shifted(OLD), PLAIN.splits["unrelated/unseen"].rows[5:12])
    found = edited_values(NegativeFlips(), PLAIN, edited, base=base)
    share = {kind: found[f"{kind}/retain/unseen"].edited.value for kind in ("kept", "lost", "gained", "never", "churn")}
    assert sum(share[kind] for kind in ("kept", "lost", "gained", "never")) == pytest.approx(1)
    # of the aggregate's two splits, 20 items lost 4, gained 5, and never had 3
    assert share["lost"] == pytest.approx(4 / 20 / 2)
    assert share["gained"] == pytest.approx(5 / 20 / 2)
    assert share["never"] == pytest.approx(3 / 20 / 2)
    assert share["churn"] == pytest.approx(9 / 20 / 2)
    assert found["inconsistency/retain/unseen"].edited.value == 0
    unchanged = edited_values(NegativeFlips(), PLAIN, oracle(OLD))
    assert {unchanged[f"{kind}/forget"].edited.value for kind in ("lost", "gained", "churn")} == {0}


def test_ripple_criteria_pass_by_edit_and_only_where_the_edit_succeeded():
    subjects = PLAIN.subject.copy()
    subjects[TAKEN] = np.arange(len(TAKEN)) % 4  # the requested subjects, three tests each
    probes = replace(DEPENDENT, subject=subjects)
    wanted = OLD.copy()
    wanted[FORGET.rows] = PLAIN.splits["edited"].answer
    failed = FORGET.rows[PLAIN.subject[FORGET.rows] == 3]
    wanted[failed] = OLD[failed]  # the edit of subject 3 did not take
    wanted[TAKEN] = NEW_VALUE
    wrong = TAKEN[(subjects[TAKEN] == 0)][:1]
    wanted[wrong] = OLD[wrong]
    found = edited_values(RippleEffects(), probes, predictions(oracle(OLD).candidate_logps, wanted))
    assert found["compositionality_1"].edited.value == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert found["success"].edited.value == 0.75
    assert found["executed"].edited.value == 1
    assert found["subject_aliasing"].status == found["compositionality_2"].status == "skipped"
    nothing = edited_values(RippleEffects(), probes, oracle(OLD))
    assert nothing["success"].edited.value == 0
    assert nothing["compositionality_1"].reason == "no edit with an executed test succeeded"


def test_portability_of_an_edit_that_rewrites_only():
    wanted = OLD.copy()
    for name in ("edited", "edited_para"):
        wanted[PLAIN.splits[name].rows] = PLAIN.splits[name].answer
    found = edited_values(Portability(), DEPENDENT, oracle(wanted))
    assert [found[key].edited.value for key in ("reliability", "generality", "locality", "one_hop")] == [1, 1, 1, 0]
    assert {found[key].status for key in ("alias", "reverse")} == {"skipped"}


def test_forgetting_rates_and_their_transfer():
    shown, siblings = FORGET.rows, TAKEN
    plain, old = world()
    split = Split("forget_heldout", siblings, old[siblings], "to_gold")
    probes = replace(plain, splits={**plain.splits, "forget_heldout": split})
    only_shown = mixed(oracle(old), uniform(N), shown)
    every = mixed(only_shown, uniform(N), siblings)
    half = mixed(only_shown, uniform(N), siblings[: len(siblings) // 2])
    for model, rate in ((only_shown, 0), (every, 1), (half, 0.5)):
        found = edited_values(ForgetGeneralization(), probes, model, base=oracle(old))
        assert found["shown"].edited.value == pytest.approx(1)
        assert found["siblings"].edited.value == found["transfer"].edited.value == pytest.approx(rate)
    none = edited_values(ForgetGeneralization(), probes, oracle(old), base=oracle(old))
    assert none["shown"].edited.value == 0 and none["transfer"].status == "skipped"


HAND = from_probabilities(np.array([[0.4, 0.4, 0.1, 0.05, 0.05], [0.5, 0.3, 0.1, 0.06, 0.04]]))


@pytest.mark.parametrize(
    ("metric", "answer", "expected"),
    [
        (AnswerNll(), [2, 0], [-np.log(0.1), -np.log(0.5)]),
        (AnswerMargin(), [0, 1], [0, np.log(0.3 / 0.5)]),
        (AnswerMargin(), [2, 0], [np.log(0.1 / 0.4), np.log(0.5 / 0.3)]),
        (ReciprocalRank(), [1, 3], [1 / 1.5, 1 / 4]),
        (HitAt(k=1), [1, 0], [0.5, 1]),
        (HitAt(k=2), [1, 2], [1, 0]),
        (HitAt(k=4), [4, 4], [0.5, 0]),
    ],
)
def test_single_items_by_hand(metric, answer, expected):
    assert metric.items(HAND, np.array([0, 1]), np.array(answer)) == pytest.approx(expected, abs=1e-6)


def test_a_uniform_model_looks_like_chance():
    rows, model = np.arange(N), uniform(N)
    assert HitAt(k=3).items(model, rows, OLD) == pytest.approx(np.full(N, 3 / O))
    assert HitAt(k=1).items(model, rows, OLD) == pytest.approx(CandidateAccuracy().items(model, rows, OLD))
    assert ReciprocalRank().items(model, rows, OLD) == pytest.approx(1 / AnswerRank().items(model, rows, OLD))


def test_behemoths_files_and_their_specificity():
    lost = mixed(oracle(OLD), shifted(OLD), PLAIN.splits["same_relation/unseen"].rows)
    found = edited_values(BehemothSplits(), PLAIN, lost)
    assert found["with_same_rel"].edited.value == 0.5  # its two parts weigh alike
    assert found["reg_data"].edited.value == 1
    assert found["edited"].edited.value == 0
    assert found["specificity"].edited.value == pytest.approx(2 / 3)  # of three parts: two of same_relation, unrelated
    assert found["same_edges_diff_rel"].status == "skipped"
