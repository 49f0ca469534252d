"""U-LiRA: scores by hand, the two limits, what a method is asked on a shadow, and runs that share what they can."""

from dataclasses import replace

import numpy as np
import pytest
from experiments import quick
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from test_shadows import odds, shadowed

from unlearn_cli.edits.forget import Forget
from unlearn_cli.methods.noop import Noop
from unlearn_cli.methods.npo import NPO
from unlearn_cli.methods.retrain import Retrain
from unlearn_cli.metrics.lira import Lira
from unlearn_cli.metrics.run import compute_all
from unlearn_cli.metrics.u_lira import ULira
from unlearn_cli.pipeline import run
from unlearn_cli.stages import all_stages, shadow_stage, unlearned_shadow_stage, unlearned_shadow_stages
from unlearn_cli.study import Study
from unlearn_cli.unlearned_shadow import repeatable, shadow_study
from unlearn_cli.worlds.shadow import members

RNG = np.random.default_rng(5)
K = 6
HALVES = [RNG.random(30) < 0.5 for _ in range(K // 2)]
TAUGHT = np.concatenate([np.stack([half, ~half]) for half in HALVES])  # [6, 30], of which the first 10 are requested
AFTER = np.where(TAUGHT, RNG.uniform(0.3, 0.7, (K, 30)), RNG.uniform(0.1, 0.5, (K, 30)))  # what unlearning left
TARGETS = {"base": RNG.uniform(0.8, 0.9, 30), "edited": RNG.uniform(0.2, 0.6, 30), "gold": RNG.uniform(0.1, 0.5, 30)}


def unlearned(targets, shadows, taught=TAUGHT):
    """An evaluation whose shadows have been unlearned, each given by the probability of every probe's answer."""
    made = shadowed(targets, shadows, taught)
    return replace(made, predictions=dict(made.predictions) | {"unlearned_shadow": made.predictions["shadow"]})


def ratio(value, fact, among, var):
    """By definition: log-density under the Gaussian of those that were taught the fact less that of the others."""
    both = []
    for side in (True, False):
        fits = [odds(AFTER[[m for m in among if TAUGHT[m, x] == side], x]) for x in range(10)]
        spread = np.mean([fit.var(ddof=1) for fit in fits]) if var == "global" else fits[fact].var(ddof=1)
        both.append(norm.logpdf(odds(value), fits[fact].mean(), np.sqrt(spread)))
    return both[0] - both[1]


@pytest.mark.parametrize("var", ["global", "each"])
def test_every_number_by_hand(var):
    values = ULira(k=K, var=var, fpr=0.4).compute(unlearned(TARGETS, AFTER))
    left_out = np.array(
        [
            [ratio(AFTER[m, x], x, [other for other in range(K) if other // 2 != m // 2], var) for x in range(10)]
            for m in range(K)
        ]
    )
    inside, outside = left_out[TAUGHT[:, :10]], left_out[~TAUGHT[:, :10]]
    rejected = np.array([np.mean(left_out[~TAUGHT[:, x], x] <= 0) for x in range(10)])
    for role, target in TARGETS.items():
        mine = np.array([ratio(target[x], x, range(K), var) for x in range(10)])
        labels = np.repeat([1, 0], [10, 30])
        found = getattr(values["u_lira/forget"], role)
        assert found.value == pytest.approx(roc_auc_score(labels, np.concatenate([mine, outside])), abs=1e-9)
        assert found.n == 40
        assert getattr(values["u_lira/tpr"], role).value == pytest.approx(
            max(np.mean(mine >= t) for t in [*mine, *outside, np.inf] if np.mean(outside >= t) <= 0.4), abs=1e-9
        )
        np.testing.assert_allclose(values["u_lira/accuracy"].items[role], ((mine > 0) + rejected) / 2, atol=1e-9)
    game = np.repeat([1, 0], 30)
    assert values["u_lira/shadows"].edited.value == pytest.approx(
        roc_auc_score(game, np.concatenate([inside, outside])), abs=1e-9
    )
    accepted = np.array([np.mean(left_out[TAUGHT[:, x], x] > 0) for x in range(10)])
    each = (accepted + rejected) / 2
    np.testing.assert_allclose(values["u_lira/shadows_accuracy"].items["edited"], each, atol=1e-9)
    assert values["u_lira/shadows_accuracy"].edited.value == pytest.approx(each.mean())
    assert values["u_lira/shadows_worst_decile"].edited.value == pytest.approx(each.max())  # one fact of ten


def test_exact_unlearning_is_chance_and_none_is_plain_lira():
    """Shadows and targets of one distribution, whatever they were taught; then in and out far apart."""
    rng, k = np.random.default_rng(0), 32
    halves = [rng.random(30) < 0.5 for _ in range(k // 2)]
    taught = np.concatenate([np.stack([half, ~half]) for half in halves])
    exact = rng.uniform(0.1, 0.9, (k + 2, 30))
    values = ULira(k=k).compute(unlearned({"edited": exact[-1], "gold": exact[-2]}, exact[:-2], taught))
    assert values["u_lira/shadows"].edited.value == pytest.approx(0.5, abs=0.1)
    assert values["u_lira/shadows_accuracy"].edited.value == pytest.approx(0.5, abs=0.1)
    assert values["u_lira/forget"].edited.value == pytest.approx(0.5, abs=0.2)  # ten facts, so an error of 0.09
    apart = np.where(taught, rng.uniform(0.8, 0.9, (k, 30)), rng.uniform(0.1, 0.2, (k, 30)))
    made = unlearned({"edited": np.full(30, 0.85), "gold": np.full(30, 0.15)}, apart, taught)
    values = ULira(k=k, fpr=0.1).compute(made)
    for key in ("forget", "accuracy", "tpr", "shadows", "shadows_accuracy", "shadows_worst_decile", "retain"):
        assert values[f"u_lira/{key}"].edited.value == 1
    assert values["u_lira/forget"].gold.value == pytest.approx(0.5, abs=0.1)
    (plain,) = Lira(k=k, var="each").attack(made, "edited")
    game = ULira(k=k, var="each").game(made, "forget")
    np.testing.assert_allclose(game.models["edited"][0], plain[:10])


def test_what_cannot_be_told_is_skipped():
    made = unlearned(TARGETS, AFTER)
    everywhere = ULira(k=K).compute(replace(made, membership=np.ones_like(TAUGHT)))
    assert everywhere["u_lira/forget"].status == "skipped"
    assert "facts about objects" in everywhere["u_lira/forget"].reason
    assert ULira(k=K, fpr=0.01).compute(made)["u_lira/tpr"].reason == "fpr=0.01 is too low for 30 non-members"
    none = compute_all({"u_lira": ULira(k=K)}, shadowed(TARGETS, AFTER, TAUGHT))["u_lira"]
    assert none.status == "skipped"
    assert "cannot be repeated" in none.reason


def metric():
    return {"u_lira": ULira(k=K, fpr=1.0)}


def test_a_shadow_is_asked_for_what_it_was_taught(tmp_path):
    study = Study.of(quick(tmp_path, metric=metric(), edit=Forget(n=8)))
    requests = []
    for member in range(K):
        own, taught = shadow_study(study, member), members(study.world, member)
        requests.append(own.request.facts)
        assert own.request.facts.tolist() == [fact for fact in study.request.facts if taught[fact]]
        assert own.pool.tolist() == [fact for fact in study.pool if taught[fact]]
        assert own.world.facts.trained.tolist() == np.flatnonzero(taught).tolist()
        data = own.edit_data(own.request)
        assert len(data.forget.facts) == len(own.request.facts)
        assert len(data.retain.facts) == len(own.pool)
        assert own.method_seed != study.method_seed
    assert sorted(np.concatenate(requests[:2])) == study.request.facts.tolist()


def test_where_a_shadow_was_taught_nothing_of_it_there_is_nothing_to_unlearn(tmp_path):
    study = Study.of(quick(tmp_path, metric=metric(), edit=Forget(n=1)))
    (fact,) = study.request.facts
    for member in range(K):
        itself = unlearned_shadow_stage(study, member).digest == shadow_stage(study, member).digest
        assert itself != members(study.world, member)[fact]
    assert len({stage.digest for stage in all_stages(study)}) == len(all_stages(study))


def test_edits_that_cannot_be_repeated_have_no_unlearned_shadows(tmp_path):
    plain = quick(tmp_path, metric=metric())
    assert repeatable(Study.of(plain))
    for method in (Retrain(), Retrain(fresh=True)):
        assert unlearned_shadow_stages(Study.of(replace(plain, method=method))) == []
    alone = replace(plain, edit=Forget(n=4, schedule="independent"), gold=replace(plain.gold, n=0))
    assert unlearned_shadow_stages(Study.of(alone)) == []
    assert unlearned_shadow_stages(Study.of(quick(tmp_path))) == []


def made_in(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "cache").rglob("model.safetensors")}


def test_runs_share_shadows_and_one_method_its_unlearned_ones(tmp_path):
    none = run(quick(tmp_path, metric=metric(), method=Noop()), tmp_path / "noop")
    assert none.status == "ok", none.error
    first = made_in(tmp_path)
    npo = NPO(steps=10, retain_batch=8)
    other = run(quick(tmp_path, metric=metric(), method=npo), tmp_path / "npo")
    assert other.status == "ok", other.error
    second = made_in(tmp_path)
    assert first.items() <= second.items()
    assert sum("-npo-shadow-" in name for name in second) == sum("-noop-shadow-" in name for name in second) >= K // 2
    assert len(second) == 1 + len(first) + sum("-npo-shadow-" in name for name in second)  # and the edited model
    again = run(quick(tmp_path, metric={"u_lira": ULira(k=K, var="each")}, method=npo), tmp_path / "again")
    assert again.status == "ok", again.error
    assert made_in(tmp_path) == second
    kept = none.metrics["u_lira/forget"]
    assert kept["value"] == kept["base"]["value"] > 0.9
    assert none.metrics["u_lira/shadows"]["value"] > 0.9
    gone = other.metrics["u_lira/forget"]
    assert gone["status"] == "ok"
    assert gone["value"] < kept["value"]
