"""ECO, embedding-corrupted prompts: flagged prompts reach the model with damaged embeddings.

Liu et al. 2024 (Large Language Model Unlearning via Embedding-Corrupted Prompts, arXiv 2406.07933), sections 3-4. A
classifier flags prompts; N(0, s^2) is added to the first d dimensions of their tokens' embeddings (or these are zeroed,
or change sign), and s is searched for by zeroth-order descent on |m(s) - v|: m is a metric of the requested facts, here
the mean probability of the old objects, v what a model retrained without them would have (`search.target`).

Departures from the authors' code: noise is drawn once for a prompt, by its tokens and the seed, where theirs is new in
every pass; s is in units of the root mean square of the embeddings, and zeroing and sign flip go a part s of the way,
so that 1 is all of it and each corruption can be searched for; the slope at the bound s >= 0 is divided by the true
distance of its two points, theirs by 2 eps; of the strengths seen the best is taken, not the last. Their classifier is
a RoBERTa fine-tuned on texts, of threshold .99, here `detection.py`; which tokens are a subject's a NER model tells
them, here the vocabulary does. Published: d about 500 to 1250 of 4096, s 100 in the demonstration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from unlearn_cli.component import Fraction, Natural, NonNegative, Positive, component
from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Need
from unlearn_cli.methods.detection import Detection
from unlearn_cli.methods.eco_search import descend
from unlearn_cli.methods.guarding import GuardMethod
from unlearn_cli.methods.slug import chance
from unlearn_cli.methods.weight_edit import read_tokens
from unlearn_cli.streams import generator

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.guards.base import Guard
    from unlearn_cli.worlds.vocabulary import Vocabulary

MOST = 512  # prompts about requested facts that m is read on


@component
class Search:
    """Zeroth-order descent from the given strength."""

    steps: Natural = 20
    lr: Positive = 2.0
    eps: Positive = 0.1
    target: Fraction | None = None


@component
class ECO(GuardMethod):
    """Embedding-corrupted prompts."""

    detector: Detection = Field(default_factory=Detection)
    corruption: Literal["rand_noise_first_n", "zero_out", "sign_flip"] = "rand_noise_first_n"
    tokens: Literal["subject", "all_prompt"] = "all_prompt"
    dims: Natural | None = None
    strength: NonNegative = 2.0
    search: Search = Field(default_factory=Search)

    @property
    def needs(self) -> frozenset[Need]:
        """What its detector needs; the requested facts are also what m is read on."""
        return self.detector.needs

    def guard(self, model: PreTrainedModel, data: EditData, context: EditContext) -> tuple[Guard, EditReport]:
        """Make the detector, then search for the strength on the requested facts, flagged or not."""
        from unlearn_cli.guards.eco import Corrupt
        from unlearn_cli.methods.detecting import phrased
        from unlearn_cli.methods.eco_reading import Reading, root_mean_square

        assert data.forget is not None
        embeddings: Any = model.get_input_embeddings()
        width: int = embeddings.embedding_dim
        if self.dims is not None and self.dims > width:
            raise UnlearnError(f"method.dims: {self.dims} given; the model's embeddings have {width} dimensions")
        found = self.detector.make(model, data, context)
        unit = root_mean_square(model) if self.corruption == "rand_noise_first_n" else 1.0
        spans = entities(data.forget.vocabulary) if self.tokens == "subject" else None
        dims = width if self.dims is None else self.dims
        guard = Corrupt(found.detector, self.corruption, spans, dims, self.strength * unit, context.seed)
        guard.to(context.runtime.device)
        asked = phrased(data.forget, None, generator(context.seed, "edit", "strength"), MOST)
        reading = Reading(guard, model, asked)
        target = chance(data.forget) if self.search.target is None else self.search.target

        def loss(strength: float) -> float:
            guard.strength = strength * unit
            return abs(reading.probability() - target)

        how = self.search
        strength, missed = descend(loss, self.strength, how.lr, how.eps, how.steps)
        guard.strength = strength * unit
        tokens = found.forward_tokens + reading.passes * read_tokens(asked)
        notes = {**found.notes, "strength": strength, "target": target, "distance": missed}
        return guard, EditReport(steps=how.steps, forward_tokens=tokens, notes=notes)


def entities(vocabulary: Vocabulary) -> list[list[int]]:
    """Token ids [start, stop) of what a fact can be about: subjects, and objects with facts of their own."""
    roles = (vocabulary[name] for name in ("subject", "object"))
    return [[role.start, role.start + role.size] for role in roles]
