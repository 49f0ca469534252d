"""What a run knows before any training: the world, the resolved request, the retain pool, the probes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from unlearn_cli.edits.base import Corruption
from unlearn_cli.evaluation import ProbeSet
from unlearn_cli.experiment import Experiment
from unlearn_cli.machine import Numerics, resolve
from unlearn_cli.methods.base import EditData
from unlearn_cli.neighbourhood import neighbourhoods, retain_pool
from unlearn_cli.schedule import probes_of_each, singles
from unlearn_cli.splits import ProbeSizes, build_probes
from unlearn_cli.streams import derive, generator
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.built import Built
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.vocabulary import Ids


@dataclass(frozen=True, eq=False)
class Study:
    """An experiment with its world built and its request resolved."""

    experiment: Experiment
    world: WorldData
    request: EditRequest

    @classmethod
    def of(cls, experiment: Experiment, built: Built | None = None) -> Study:
        """Build the world and resolve the edit; pure, so that every process of a run gets the same."""
        world = (built or Built())(experiment.world, experiment.seed)
        return cls(experiment, world, experiment.edit.resolve(world, generator(experiment.seed, "edit")))

    @cached_property
    def counterfactual(self) -> WorldData:
        """The world as if the request had always held: what gold is trained on."""
        return self.world.apply(self.request)

    @cached_property
    def pool(self) -> Ids:
        """Fact ids of the retain pool."""
        retain = self.experiment.retain
        return retain_pool(self.world, self.request, retain.pool, retain.requested_subjects)

    @cached_property
    def probes(self) -> ProbeSet:
        """Every probe of the run."""
        evaluate = self.experiment.evaluate
        sizes = ProbeSizes(evaluate.facts, evaluate.templates, evaluate.requested)
        build = probes_of_each if self.independent else build_probes
        return build(self.world, self.request, self.pool, sizes)

    @cached_property
    def numerics(self) -> Numerics:
        """Accelerator and precision with every `auto` resolved."""
        trainer = self.experiment.trainer
        kind, devices, threads = trainer.accelerator, trainer.devices, trainer.threads
        found = resolve(kind, devices, threads, trainer.precision, trainer.num_nodes, trainer.strategy)
        return replace(found, spread=self.experiment.model.device_map == "auto")

    @property
    def method_seed(self) -> int:
        """Seed of the method's own draws: the run's, and another one in every further replica."""
        seed, replica = self.experiment.seed, self.experiment.replica
        return derive(seed, "replica", replica) if replica else seed

    def summary(self) -> dict[str, Any]:
        """The request in short: its kind, how many facts it is about, shows, and changes through what follows."""
        request, parts = self.request, neighbourhoods(self.world, self.request)
        said = {
            "op": request.op,
            "facts": len(request.facts),
            "shown": int(request.visible.sum()),
            "dependents": len(parts["dep_change"]),
            "propagate": request.propagate,
            "phrasing": request.phrasing,
        }
        if request.new_object is None and self.world.choices is None:
            said["deducible"] = len(self.deducible)
        return said

    @cached_property
    def deducible(self) -> Ids:
        """The forgotten facts that still follow from what is trained."""
        facts = self.request.facts
        return facts[self.counterfactual.posterior(facts).deducible]

    @property
    def independent(self) -> bool:
        """Whether every requested fact gets an edited model of its own."""
        return self.experiment.edit.schedule == "independent"

    def requests(self) -> list[EditRequest]:
        """What the method is asked to do, in order."""
        return [self.request] if self.experiment.edit.schedule == "batch" else singles(self.request)

    def edit_data(self, request: EditRequest) -> EditData:
        """What the method declares to need for `request`, and nothing else of the world."""
        needs, shown = self.experiment.method.needs, request.visible
        phrased = self.world.phrased(request.phrasing)
        facts, old = request.facts[shown], self.world.old_objects(request)[shown]
        target = None if request.new_object is None else request.new_object[shown]
        return replace(
            self.retain_data(),
            forget=phrased.only(facts, old) if "forget" in needs else None,
            target=target if "forget" in needs else None,
        )

    def corruption_data(self, corruption: Corruption) -> EditData:
        """The requested facts with the old objects as targets, and right facts: what makes a corrupted base."""
        world, request = self.world.phrased(self.request.phrasing), self.request
        right = retain_pool(self.world, request, 1.0, requested_subjects=True)
        if request.phrasing != "statement":
            right = right[self.world.facts.questions[right] > 0]
        rng = generator(self.experiment.seed, "corrupt", "unrelated")
        right = np.sort(rng.choice(right, min(corruption.unrelated, len(right)), replace=False))
        retain = world.only(right) if len(right) else None
        return EditData(world.only(request.facts), self.world.old_objects(request), retain, world.language)

    def retain_data(self) -> EditData:
        """The same without any requested fact."""
        phrasing, pool = self.request.phrasing, self.pool
        if phrasing != "statement":
            pool = pool[self.world.facts.questions[pool] > 0]  # an edit does not teach to be asked
        phrased, retain = self.world.phrased(phrasing), "retain" in self.experiment.method.needs
        return EditData(None, None, phrased.only(pool) if retain else None, phrased.language)
