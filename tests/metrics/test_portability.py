"""Portability of what files say that follows from an edit, by what they call it."""

from dataclasses import replace

import numpy as np
import pytest
from doubles import evaluation, mixed, oracle, world

from unlearn_cli.evaluation import Split
from unlearn_cli.metrics.portability import CALLED, Portability

PROBES, OLD = world(remap=True)
TAKEN = PROBES.splits["unrelated/unseen"].rows[:12]
PARTS = {"Subject_Aliasing": slice(0, 4), "Logical_Generalization": slice(4, 6), "Reasoning": slice(6, 12)}


def following(parts):
    """Some facts follow from the edit, and go by these names."""
    new = (OLD[TAKEN] + 1) % PROBES.objects
    named = {"dep_change_closure": slice(0, len(TAKEN))} | {f"dep_change_closure/{k}": v for k, v in parts.items()}
    splits = {name: Split(name, TAKEN[part], new[part], "higher") for name, part in named.items()}
    return replace(PROBES, splits={**PROBES.splits, **splits}), new


def values(probes, edited):
    found = Portability().compute(evaluation(probes, base=oracle(OLD), edited=edited))
    return {name.removeprefix("portability/"): value for name, value in found.items()}


def test_what_follows_is_told_apart_by_its_name():
    probes, new = following(PARTS)
    derived = OLD.copy()
    derived[TAKEN] = new
    right = np.concatenate([TAKEN[:3], TAKEN[4:5], TAKEN[6:8]])  # 3 of 4, 1 of 2, 2 of 6
    found = values(probes, mixed(oracle(OLD), oracle(derived), right))
    shares = [found[name].edited.value for name in ("alias", "reverse", "one_hop")]
    assert shares == pytest.approx([3 / 4, 1 / 2, 2 / 6])


def test_names_that_nobody_knows_are_one_hop():
    probes, new = following({"portability": PARTS["Reasoning"], "mine": slice(0, 6)})
    derived = OLD.copy()
    derived[TAKEN] = new
    found = values(probes, mixed(oracle(OLD), oracle(derived), TAKEN[:3]))
    assert found["one_hop"].edited.value == pytest.approx(3 / 12)
    assert {found[name].status for name in CALLED} == {"skipped"}


def test_a_generated_world_says_why_it_has_no_other_names():
    alias = values(PROBES, oracle(OLD))["alias"]
    assert alias.status == "skipped"
    assert alias.reason == (
        "nothing asks by another name of the subject: a generated one has none, files call it Subject_Aliasing"
    )


def test_nothing_but_aliases_leaves_no_hop():
    probes, _ = following({"Subject_Aliasing": slice(0, 12)})
    assert (
        values(probes, oracle(OLD))["one_hop"].reason
        == "all that follows is asked by another name or the other way round"
    )
    assert values(PROBES, oracle(OLD))["one_hop"].reason.startswith("there is no split dep_change_closure")
