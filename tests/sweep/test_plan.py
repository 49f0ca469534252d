"""What a sweep's runs share is found before anything is made, and made once."""

from __future__ import annotations

from collections import Counter

from experiments import quick

from unlearn_cli.cache import Cache
from unlearn_cli.edits.base import Corruption
from unlearn_cli.edits.restore import Restore
from unlearn_cli.methods.ft import FT
from unlearn_cli.methods.mend import MEND
from unlearn_cli.methods.noop import Noop
from unlearn_cli.metrics.counterfactual_memorization import CounterfactualMemorization
from unlearn_cli.metrics.fact_accuracy import FactAccuracy
from unlearn_cli.pipeline import describe
from unlearn_cli.sweep.plan import plan
from unlearn_cli.sweep.tasks import make_shared
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.built import KEPT, Built
from unlearn_cli.worlds.tabular import Tabular

SHADOWED = {"fact_accuracy": FactAccuracy(), "counterfactual_memorization": CounterfactualMemorization(k=4)}
RESTORE = Restore(n=4, corruption=Corruption(steps=3))


def kinds(found):
    return Counter(shared.stage for shared in found.shared)


def test_every_model_before_the_edit_is_shared_by_the_runs_that_need_it(tmp_path):
    grid = {
        3: quick(tmp_path, method=MEND(scale=0.1), metric=SHADOWED),
        5: quick(tmp_path, method=MEND(scale=0.2), metric=SHADOWED),
        8: quick(tmp_path, method=Noop()),
        9: quick(tmp_path, method=Noop(), seed=1, metric=SHADOWED),
    }
    found = plan(grid)
    assert kinds(found) == {"train": 1, "gold": 1, "shadow": 4, "prepare": 1}
    digests = {kind: {one.digest for one in found.shared if one.stage == kind} for kind in kinds(found)}
    assert found.waits == {
        3: frozenset().union(*digests.values()),
        5: frozenset().union(*digests.values()),
        8: digests["train"] | digests["gold"],
        9: frozenset(),
    }
    (prepared,) = (one for one in found.shared if one.stage == "prepare")
    assert (prepared.cell, set(prepared.after)) == (3, digests["train"])
    assert sorted(one.member for one in found.shared if one.stage == "shadow") == [0, 1, 2, 3]


def test_what_is_made_is_what_the_runs_take(tmp_path):
    grid = {n: quick(tmp_path, method=FT(lr=lr), edit=RESTORE, metric=SHADOWED) for n, lr in enumerate((1e-4, 2e-4))}
    found = plan(grid)
    assert kinds(found) == {"train": 1, "gold": 1, "shadow": 4, "corrupt": 1}
    for shared in found.shared:
        if shared.stage in ("corrupt", "shadow") and shared.member in (0, 3):
            assert make_shared(grid[shared.cell], shared.stage, shared.member) == 0
    left = plan(grid)
    assert kinds(left) == {"gold": 1, "shadow": 2}  # the corrupted base is made from the base
    for number, experiment in grid.items():
        missing = {line.split()[1] for line in describe(experiment) if "  miss  " in line}
        assert missing & {one.digest for one in found.shared} == left.waits[number]


def test_a_world_is_built_once_for_all_runs_that_have_it(tmp_path, monkeypatch):
    times = Counter()

    def counted(self, seed):
        times[self.subjects, seed] += 1
        return build(self, seed)

    build = Tabular.build
    monkeypatch.setattr(Tabular, "build", counted)
    plan({n: quick(tmp_path, seed=n % 3, method=FT(lr=0.001 * (n + 1))) for n in range(12)})
    assert times == {(20, seed): 1 for seed in range(3)}


def test_the_last_few_worlds_are_kept(monkeypatch):
    built, world = Built(), Tabular(subjects=5, relations=2, objects=3)
    first = built(world, 0)
    assert built(Tabular(subjects=5, relations=2, objects=3), 0) is first
    others = [built(world, seed) for seed in range(1, KEPT)]
    assert all(isinstance(one, WorldData) for one in others)
    assert built(world, 0) is first
    for seed in range(1, KEPT + 1):
        built(world, seed)
    assert built(world, 0) is not first


def test_looking_at_the_plan_makes_nothing(tmp_path):
    plan({0: quick(tmp_path), 1: quick(tmp_path)})
    assert not Cache(tmp_path / "cache").root.exists()
