"""Shadow models: who is in which half, the metrics that read them by hand, and a run that trains and reuses them."""

from dataclasses import replace

import numpy as np
import pytest
from doubles import from_probabilities
from experiments import quick
from scipy.stats import norm
from token_doubles import scored, sides, told

from unlearn_cli.methods.noop import Noop
from unlearn_cli.methods.retrain import Retrain
from unlearn_cli.metrics.counterfactual_memorization import CounterfactualMemorization
from unlearn_cli.metrics.lira import Lira
from unlearn_cli.metrics.rmia import Rmia, shares
from unlearn_cli.pipeline import run
from unlearn_cli.stages import shadow_stages
from unlearn_cli.study import Study
from unlearn_cli.worlds.exposure import Exposure
from unlearn_cli.worlds.shadow import members, shadow_world
from unlearn_cli.worlds.tabular import Nested, Tabular

WORLD = Tabular(
    subjects=20, relations=2, objects=4, holdout_subjects=6, nested=Nested(objects=2), exposure=Exposure(kind="zipf")
)


def test_halves_are_balanced_whoever_the_base_saw():
    world = WORLD.build(3)
    table, taught = world.facts, np.stack([members(world, shadow) for shadow in range(6)])
    people = table.subject < world.language.subjects
    assert (taught[:, people].sum(0) == 3).all()  # reserved subjects too
    assert (taught[0::2] ^ taught[1::2])[:, people].all()
    assert taught[:, ~people].all()  # what objects have is no subject's secret
    for shadow in taught[:, people]:
        subjects = table.subject[people]
        assert all(len(set(shadow[subjects == subject])) == 1 for subject in np.unique(subjects))
        assert len(np.unique(subjects[shadow])) == 13
    assert (members(world, 0) != members(WORLD.build(4), 0)).any()
    assert (taught[0] != taught[2]).any()


def test_a_shadow_is_trained_on_its_members_and_nothing_else():
    world = WORLD.build(0)
    other = shadow_world(world, 1)
    assert other.facts.trained.tolist() == np.flatnonzero(members(world, 1)).tolist()
    np.testing.assert_array_equal(other.facts.object, world.facts.object)
    reserved = np.flatnonzero(world.facts.holdout & members(world, 1))
    assert len(np.unique(other.facts.exposure[reserved])) > 1  # as unequal as the trained facts'
    assert set(other.facts.exposure[reserved]) <= set(world.facts.exposure[world.facts.exposure > 0])
    kept = members(world, 1) & ~world.facts.holdout
    np.testing.assert_array_equal(other.facts.exposure[kept], world.facts.exposure[kept])


def shadowed(targets, shadows, taught):
    """An evaluation of models and shadows, each given by the probability of every probe's answer."""

    def answers(p):
        rest = np.repeat((1 - p)[:, None] / 4, 4, axis=1)
        return from_probabilities(np.concatenate([p[:, None], rest], axis=1))

    probes = sides()
    seen = scored(probes, np.zeros((30, 1)))
    made = told(probes, **{role: [seen] if role == "gold" else seen for role in targets})
    predictions = {role: (answers(p),) for role, p in targets.items()}
    predictions["shadow"] = tuple(map(answers, shadows))
    return replace(made, predictions=predictions, membership=taught)


RNG = np.random.default_rng(1)
TAUGHT = np.stack([RNG.random(30) < 0.5 for _ in range(2)])
TAUGHT = np.concatenate([np.stack([half, ~half]) for half in TAUGHT])  # [4, 30]
SHADOWS = np.where(TAUGHT, RNG.uniform(0.6, 0.95, (4, 30)), RNG.uniform(0.05, 0.4, (4, 30)))
TARGET = RNG.uniform(0.1, 0.9, 30)


def odds(p):
    return np.log(p / (1 - p))


@pytest.mark.parametrize("var", ["global", "each"])
@pytest.mark.parametrize("online", [True, False])
def test_lira_against_scipy(var, online):
    made = shadowed({"edited": TARGET}, SHADOWS, TAUGHT)
    (found,) = Lira(k=4, var=var, online=online).attack(made, "edited")
    inner = np.array([[odds(SHADOWS[m, x]) for m in range(4) if TAUGHT[m, x]] for x in range(30)])
    outer = np.array([[odds(SHADOWS[m, x]) for m in range(4) if not TAUGHT[m, x]] for x in range(30)])
    fits = []
    for values in (inner, outer):
        variance = values.var(1, ddof=1)
        fits.append((values.mean(1), np.sqrt(variance.mean() if var == "global" else variance)))
    expected = (odds(TARGET) - fits[1][0]) / fits[1][1]
    if online:
        expected = norm.logpdf(odds(TARGET), *fits[0]) - norm.logpdf(odds(TARGET), *fits[1])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_lira_swaps_and_vanishes():
    metric = Lira(k=4)
    (plain,) = metric.attack(shadowed({"edited": TARGET}, SHADOWS, TAUGHT), "edited")
    (swapped,) = metric.attack(shadowed({"edited": TARGET}, SHADOWS, ~TAUGHT), "edited")
    np.testing.assert_allclose(swapped, -plain)
    alike = np.stack([SHADOWS[0], SHADOWS[0], SHADOWS[1], SHADOWS[1]])
    (none,) = metric.attack(shadowed({"edited": TARGET}, alike, TAUGHT), "edited")
    np.testing.assert_allclose(none, 0, atol=1e-9)
    assert odds(0.9) == pytest.approx(2.19722, abs=1e-5)


def test_lira_finds_members_and_nothing_else():
    knows = np.where(np.arange(30) < 20, 0.8, 0.2) + RNG.uniform(-0.02, 0.02, 30)
    never = np.full(30, 0.2) + RNG.uniform(-0.02, 0.02, 30)
    made = shadowed({"base": knows, "edited": never, "gold": never}, SHADOWS, TAUGHT)
    for metric in (Lira(k=4, fpr=1.0), Rmia(k=4, fpr=1.0)):
        value = metric.compute(made)[f"{metric.name}/forget"]
        assert value.base.value > 0.9
        assert value.edited == value.gold
        assert value.edited.value < 0.85


def test_rmia_by_hand():
    out = np.array([[0.4, 0.3]])
    prior = Rmia(a=0.3).prior(out, np.zeros((1, 2), dtype=bool))
    assert prior == pytest.approx([0.61, 0.545])
    ratio = np.array([0.8, 0.3]) / prior
    assert ratio == pytest.approx([1.3115, 0.5505], abs=1e-4)
    every = np.array([*ratio, 0.7407, 0.9836])
    assert shares(every, np.array([2, 3]), 1.0)[:2].tolist() == [1.0, 0.0]
    assert shares(every, np.array([2, 3]), 1.0)[2:].tolist() == [0.0, 1.0]  # each against the other
    assert shares(every, np.array([2, 3]), 1.5)[0] == 0.5
    both = Rmia(online=True).prior(np.array([[0.4], [0.8]]), np.array([[False], [True]]))
    assert both == pytest.approx([0.6])


def test_rmia_leaves_out_an_item_itself():
    ratio, population = RNG.uniform(0.5, 2, 12), np.arange(4, 12)
    for gamma in (0.7, 1.0, 1.3):
        found = shares(ratio, population, gamma)
        for x in range(12):
            others = [z for z in population if z != x]
            assert found[x] == pytest.approx(np.mean([ratio[x] > gamma * ratio[z] for z in others]))


def test_counterfactual_memorization_by_hand():
    made = shadowed({"base": TARGET, "edited": SHADOWS.mean(0)}, SHADOWS, TAUGHT)
    values = CounterfactualMemorization(k=4, measure="probability").compute(made)
    outer = np.array([SHADOWS[~TAUGHT[:, x], x].mean() for x in range(30)])
    inner = np.array([SHADOWS[TAUGHT[:, x], x].mean() for x in range(30)])
    name = "counterfactual_memorization"
    assert values[f"{name}/forget"].base.value == pytest.approx((TARGET - outer)[:10].mean(), abs=1e-6)
    assert values[f"{name}/forget"].edited.value == pytest.approx((inner - outer)[:10].mean() / 2, abs=1e-6)
    assert values[f"{name}/memorized"].edited.value == pytest.approx((inner - outer)[:10].mean(), abs=1e-6)
    errors = [
        np.sqrt(sum(np.var(SHADOWS[chosen, x], ddof=1) / 2 for chosen in (TAUGHT[:, x], ~TAUGHT[:, x])))
        for x in range(10)
    ]
    assert values[f"{name}/error"].edited.value == pytest.approx(np.mean(errors), abs=1e-6)
    assert values[f"{name}/forget"].items["base"] == pytest.approx((TARGET - outer)[:10], abs=1e-6)


def test_who_is_trained_does_not_matter_where_nothing_is_memorised():
    same = np.full((4, 30), 0.3)
    values = CounterfactualMemorization(k=4, measure="probability").compute(shadowed({"edited": same[0]}, same, TAUGHT))
    assert values["counterfactual_memorization/forget"].edited.value == pytest.approx(0, abs=1e-9)
    assert values["counterfactual_memorization/memorized"].edited.value == pytest.approx(0, abs=1e-9)


def metrics():
    return {"lira": Lira(k=4, fpr=1.0), "rmia": Rmia(k=2, fpr=1.0), "mem": CounterfactualMemorization(k=4)}


def test_shadows_are_stages_that_a_grid_shares(tmp_path):
    first = run(quick(tmp_path, metric=metrics(), method=Noop()), tmp_path / "noop")
    assert first.status == "ok", first.error
    made = sorted(path.name for path in (tmp_path / "cache" / "shadow").iterdir() if path.is_dir())
    assert len(made) == 4
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "shadow").rglob("model.safetensors")}
    second = run(quick(tmp_path, metric=metrics(), method=Retrain()), tmp_path / "retrain")
    assert second.status == "ok", second.error
    assert times == {path: path.stat().st_mtime_ns for path in times}
    for name in ("lira/forget", "rmia/forget", "counterfactual_memorization/forget"):
        kept, gone = first.metrics[name], second.metrics[name]
        assert kept["status"] == gone["status"] == "ok"
        assert kept["value"] == kept["base"]["value"]  # nothing was changed
        assert kept["value"] > gone["value"]
    assert first.metrics["lira/forget"]["value"] > 0.9
    assert first.metrics["counterfactual_memorization/memorized"]["value"] > 0.5


def test_how_many_shadows_there_are_is_the_most_that_a_metric_reads(tmp_path):
    study = Study.of(quick(tmp_path, metric=metrics()))
    few = Study.of(quick(tmp_path, metric={"rmia": Rmia(k=2)}))
    assert [stage.digest for stage in shadow_stages(few)] == [stage.digest for stage in shadow_stages(study)][:2]
    assert len(shadow_stages(study)) == 4
    assert shadow_stages(Study.of(quick(tmp_path))) == []
