"""What metrics read: probes sorted into splits, each model's predictions on them, and what each stage cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.worlds.facts import REFUSAL

if TYPE_CHECKING:
    from unlearn_cli.observations.base import Observation

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
# shadow: trained on random halves of the subjects; unlearned_shadow: that, after the same edit
Role = Literal["base", "edited", "gold", "shadow", "unlearned_shadow"]
Direction = Literal["higher", "lower", "to_gold", "descriptive"]
Arrays = Mapping[str, NDArray[Any]]

OTHER = -1  # greedy answer: no object of the relation


@dataclass(frozen=True, eq=False)
class Split:
    """A named set of probes and the object that counts as the answer there."""

    name: str  # "edited", "unrelated/unseen", ...
    rows: Ids  # [n] rows of the probe set
    answer: Ids  # [n] object that is scored, REFUSAL included
    direction: Direction  # of knowing that object
    reason: str | None = None  # why the split is empty
    posterior: Floats | None = None  # [n, O] what can still be said of the fact once the request holds

    @property
    def must_not_change(self) -> bool:
        """Whether it is a part, `/seen` or `/unseen`, of a must-not-change split."""
        return self.name.endswith(("/seen", "/unseen"))


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """N prompts that end where an object must begin, and the splits over them."""

    fact: Ids  # [N]
    template: Ids  # [N]
    subject: Ids  # [N]
    objects: int  # most objects of a relation, O
    splits: Mapping[str, Split]
    request: Ids | None = None  # [N] the request that a probe belongs to, where each has a model of its own
    lengths: Ids | None = None  # [N, O + 1] tokens of each object and, last, of the refusal; None: all have as many

    def __len__(self) -> int:
        return len(self.fact)

    @property
    def cluster(self) -> Ids:
        """Unit of resampling [N]: probes of one subject, or of one request's model, are not independent."""
        return self.subject if self.request is None else self.request

    def per_token(self, logps: Floats, rows: Ids, answer: Ids) -> Floats:
        """Log-probabilities [n] of answers [n], objects or REFUSAL, to probes `rows` [n], by which lengths compare.

        Means over tokens where answers differ in their number; as they are where all have as many.
        """
        if self.lengths is None:
            return logps
        found: Floats = logps / self.lengths[rows, np.maximum(answer, -1)]  # the refusal is the last
        return found

    def only(self, rows: Ids) -> ProbeSet:
        """These probes, without splits: enough to ask them."""
        asked = {name: getattr(self, name)[rows] for name in ("fact", "template", "subject")}
        return ProbeSet(**asked, objects=self.objects, splits={})


@dataclass(frozen=True, eq=False)
class Predictions:
    """One model's answers to every probe, small enough to store whatever the vocabulary's size."""

    candidate_logps: NDArray[np.float32]  # [N, O] log P(object | prompt) of each object of the relation, nats;
    # -inf where the relation has fewer than O
    greedy: Ids  # [N] object that greedy decoding over the whole vocabulary spells, REFUSAL, or OTHER
    refusal_logps: NDArray[np.float32]  # [N] log P(refusal | prompt), nats

    def answer_logps(self, rows: Ids, answer: Ids) -> NDArray[np.float32]:
        """Log-probability of an answer [n], an object or REFUSAL, to each probe of `rows` [n]."""
        objects = self.candidate_logps[rows, np.maximum(answer, 0)]
        return np.where(answer == REFUSAL, self.refusal_logps[rows], objects)


@dataclass(frozen=True, eq=False)
class TextPredictions(Predictions):
    """The same of a world of real text."""

    reworded_logps: NDArray[np.float32]  # [N] log P(right answer in other words | prompt); NaN where there is none


@dataclass(frozen=True)
class Cost:
    """What making one model took, measured when it was made."""

    seconds: float
    peak_memory_bytes: int | None
    steps: int
    forward_tokens: int
    backward_tokens: int
    trainable_parameters: int
    parameters: int  # without embeddings and output layer


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn."""

    samples: int = 1000
    level: float = 0.95
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything a metric may read. A role that is absent makes the metrics that need it `skipped`."""

    probes: ProbeSet
    predictions: Mapping[Role, tuple[Predictions, ...]]  # gold, shadow: one for each model; absent when none
    checkpoints: Mapping[Role, tuple[Path, ...]]  # Hugging Face folders
    costs: Mapping[Role, tuple[Cost, ...]]
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    observed: Mapping[tuple[Role, Observation], tuple[Arrays | Absent, ...]] = field(default_factory=dict)
    membership: NDArray[np.bool_] | None = None  # [K, N] whether each of K shadows was trained on each probe's fact

    def seen(self, observation: Observation, role: Role) -> tuple[Arrays, ...]:
        """The arrays of each of the role's models; empty when there is none, or nothing to observe in it."""
        found = self.observed.get((role, observation), ())
        return tuple(arrays for arrays in found if not isinstance(arrays, Absent))


@dataclass(frozen=True)
class Absent:
    """An observation that was not made."""

    reason: str
    failed: bool = False  # by an error, not because there was nothing to observe


@dataclass(frozen=True)
class Reading:
    """One model's value of a metric."""

    value: float
    n: int  # items counted
    ci: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As stored in `result.json`."""
        return {"value": self.value, "n": self.n, "ci": None if self.ci is None else list(self.ci)}


@dataclass(frozen=True, eq=False)
class MetricValue:
    """One entry of `result.json`: the edited model's value, the base's and gold's beside it."""

    edited: Reading | None
    unit: str
    direction: Direction
    base: Reading | None = None
    gold: Reading | None = None
    status: Literal["ok", "skipped", "failed"] = "ok"
    reason: str | None = None
    items: Mapping[Role, Floats] = field(default_factory=dict)  # value of every probe of `rows`, per role
    rows: Ids | None = None
