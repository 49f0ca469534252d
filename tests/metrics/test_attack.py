"""What attacks are measured by, on attacks whose outcome is known."""

from dataclasses import replace

import numpy as np
import pytest
from doubles import amnesiac, evaluation, mixed, oracle, uniform, world

from unlearn_cli.metrics.attack import AttackMetric
from unlearn_cli.observations.attacked import arrays, evaluated_rows
from unlearn_cli.observations.base import Observation

PROBES, OLD = world()
ROWS = evaluated_rows(PROBES)
KNOWS, FORGOT = oracle(OLD), amnesiac(PROBES, OLD)
BASE = mixed(KNOWS, uniform(len(OLD)), PROBES.splits["holdout"].rows)  # never saw the holdout


class Attack(Observation):
    VERSION = 1

    def observe(self, model, scene):
        raise NotImplementedError


class Stub(AttackMetric):
    VERSION = 1
    name = "stub"
    attack = Attack()


class Best(Stub):
    over_tries = "any"


def asked(*models):
    """The arrays of an attack after which a model answers as each of `models`."""
    parts = [replace(m, candidate_logps=m.candidate_logps[ROWS], greedy=m.greedy[ROWS]) for m in models]
    return arrays(ROWS, parts)


def attacked(metric=Stub, base=BASE, edited=FORGOT, gold=(), after=None):
    """The values where `after` gives what each role's model becomes in each try; by default itself."""
    found = evaluation(PROBES, base=base, edited=edited, gold=gold)
    observed = {
        (role, metric.attack): tuple(asked(*(after or {}).get(role, (model,))) for model in models)
        for role, models in found.predictions.items()
    }
    values = metric().compute(replace(found, observed=observed))
    return {name.removeprefix("stub/"): value for name, value in values.items()}


def test_an_attack_that_does_nothing_gains_nothing():
    values = attacked(gold=(FORGOT,))
    assert values["forget"].edited.value == pytest.approx(0.2)  # uniform over five
    assert values["gain"].edited.value == values["excess"].edited.value == values["recovery"].edited.value == 0
    assert values["retain"].edited.value == 1


def test_an_attack_that_gives_the_base_back_recovers_everything():
    values = attacked(gold=(FORGOT,), after={"edited": (BASE,)})
    assert values["forget"].edited.value == values["recovery"].edited.value == 1
    assert values["gain"].edited.value == pytest.approx(0.8)
    assert values["excess"].edited.value == pytest.approx(0.8)
    assert values["forget"].direction == "to_gold" and values["excess"].direction == "lower"


def test_part_of_it_by_hand():
    rows = PROBES.splits["forget"].rows  # eight prompts; two come back: gain 2 * 0.8 / 8, of 0.8 that is gone
    values = attacked(gold=(FORGOT,), after={"edited": (mixed(FORGOT, KNOWS, rows[:2]),)})
    assert values["gain"].edited.value == pytest.approx(0.2)
    assert values["recovery"].edited.value == pytest.approx(0.25)


@pytest.mark.parametrize("after", [KNOWS, FORGOT, uniform(len(OLD))])
def test_gold_itself_has_no_excess(after):
    values = attacked(edited=FORGOT, gold=(FORGOT,), after={"edited": (after,), "gold": (after,)})
    assert values["excess"].edited.value == 0
    assert values["gain"].edited == values["gain"].gold


def test_without_gold_the_base_on_what_it_never_knew_is_the_control():
    rows = PROBES.splits["holdout"].rows  # half of them are taught to the base by the attack: 0.4 of 0.8
    taught = mixed(BASE, KNOWS, rows[: len(rows) // 2])
    value = attacked(after={"edited": (BASE,), "base": (taught,)})["excess"]
    assert value.edited.value == pytest.approx(0.8 - 0.4)
    assert "holdout" in value.reason


def test_where_nothing_was_removed_nothing_can_come_back():
    values = attacked(edited=BASE, gold=(FORGOT,))
    assert values["gain"].edited.value == 0
    assert values["recovery"].status == "skipped" and "removed" in values["recovery"].reason
    assert values["recovery"].gold is None or values["recovery"].gold.value == 0


def test_tries_are_averaged_or_the_best_counts():
    rows = PROBES.splits["forget"].rows
    tries = {"edited": (mixed(FORGOT, KNOWS, rows[:4]), mixed(FORGOT, KNOWS, rows[2:4]))}
    assert attacked(after=tries)["forget"].edited.value == pytest.approx((4 * 1 + 4 * 0.2 + 2 * 1 + 6 * 0.2) / 16)
    assert attacked(Best, after=tries)["forget"].edited.value == pytest.approx((4 * 1 + 4 * 0.2) / 8)


def test_gold_is_the_mean_over_its_models():
    value = attacked(gold=(FORGOT, FORGOT), after={"gold": (FORGOT,)})["forget"]
    assert value.gold.value == pytest.approx(0.2)


def test_a_broken_model_shows_in_what_must_not_change():
    assert attacked(after={"edited": (uniform(len(OLD)),)})["retain"].edited.value == pytest.approx(0.2)


def test_without_requested_facts_it_is_skipped():
    forget = replace(PROBES.splits["forget"], rows=np.empty(0, int), answer=np.empty(0, int), reason="none")
    probes = replace(PROBES, splits={**PROBES.splits, "forget": forget})
    values = Stub().compute(evaluation(probes, base=BASE, edited=FORGOT))
    assert values["stub"].status == "skipped" and values["stub"].reason == "none"
