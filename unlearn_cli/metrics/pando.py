"""What the Pando metrics share: their fields, the tasks of a run's models, and what agents make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from unlearn_cli.component import Count, Positive, component
from unlearn_cli.evaluation import Direction, Evaluation, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.pando_agents import Outcome, Search, Task, outcomes
from unlearn_cli.metrics.probing import ROLES
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.field_scores import FieldScores

DIRECTION: Direction = "descriptive"  # higher is better for a tool; of an edit it says nothing by itself

Results = dict[Role, list[dict[str, Outcome]]]  # of each of a role's models, by agent


@component
class Pando(Metric):
    """Reads field scores of every model."""

    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    n: Annotated[int, Field(ge=2)] = 100  # records of a model, half of them yes

    @property
    def observed(self) -> FieldScores:
        """What is read."""
        return FieldScores(n=self.n)

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Field scores."""
        return (self.observed,)

    def tasks(self, evaluation: Evaluation) -> dict[Role, list[Task]]:
        """Of each role's models."""
        return {role: [Task.of(arrays) for arrays in evaluation.seen(self.observed, role)] for role in ROLES}


@component
class Searching(Pando):
    """Reads what agents make of field scores."""

    k: Count = 10  # labelled records
    iterations: Count = 10_000  # random trees of each depth; published: 50,000
    deepest: Count = 4  # depth of the deepest trees
    temperature: Positive = 2.0  # T of a tool's prior over fields
    draws: Count = 3  # times that k records are drawn to be labelled; published: 1

    def results(self, evaluation: Evaluation, k: int, agents: Sequence[str]) -> Results:
        """Of the models that have more than k records; same chances for every model and agent."""
        search = Search(self.iterations, self.deepest, self.temperature, self.draws, evaluation.bootstrap.seed)
        return {
            role: [outcomes(task, search, k, agents) for task in tasks if len(task.subject) > k]
            for role, tasks in self.tasks(evaluation).items()
        }


def too_few(k: int) -> str:
    """Why the edited model's agents have nothing to predict."""
    return f"the model has {k} records or fewer of which {k} are labelled: none is left to predict"
