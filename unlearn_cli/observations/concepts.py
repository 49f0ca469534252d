"""Concept vectors: the columns of the MLPs' down projections that write the requested objects in the base.

Hong et al. 2024 (ConceptVectors, arXiv 2406.11614): MLP(h) = sum_j m_j(h) v_j. There a language model judges which v_j
stand for a concept. Here the facts say so: the attribution of column j of block l to object o on prompt x is m_j(x)
(W_U v_j)[o], with the final norm's gain folded into W_U, centred over the vocabulary. A concept is one object of one
relation that is to be forgotten; its vectors are the `vectors` columns with the highest mean attribution over the
requested prompts that ask for it. Of an object of several tokens its first one counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from unlearn_cli.component import Count, NonNegative, component
from unlearn_cli.evaluation import Arrays, Ids, Role
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.observations.slices import old_objects, requested
from unlearn_cli.streams import derive, generator

if TYPE_CHECKING:
    from torch import Tensor

LEAST_SHARE = 10  # at most a tenth of the vocabulary counts as the tokens of a vector
PROMPTS = 16  # of a concept, when vectors are ablated


@component
class Concepts(Observation):
    """The base's concept vectors, as they are in this model, and what this model says without them."""

    VERSION: ClassVar[int] = 2
    guarded: ClassVar[bool] = False  # reads and changes the weights
    beside: ClassVar[tuple[Role, ...]] = ("base",)

    vectors: Count  # columns of a concept
    tokens: Count  # most probable tokens of a vector, at most a tenth of the vocabulary
    noise: NonNegative | None  # standard deviation added to the vectors; None: they are zeroed
    unrelated: Count  # other concepts whose answers are compared

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`layer`, `unit`, `cosine`, `distance`, `jaccard`, `hits` [C, n], the last the relation's objects among the
        top tokens; `counts` [4], top tokens k, vocabulary V, objects O and vectors n; `same`, `same_unrelated` [C],
        share of greedy answers that stay when the concept's vectors are ablated."""
        if "base" not in scene.beside:
            raise Unobservable("there is no base in which to find concept vectors")
        base, concepts = scene.beside["base"], _concepts(scene)
        before, after, decoder = columns(base), columns(model), folded(base)
        if before.shape != after.shape:
            raise Unobservable("the base and this model differ in their MLPs")
        found = np.stack([self._found(scene, base, before, decoder, rows) for rows in concepts])  # [C, n, 2]
        k = max(1, min(self.tokens, len(decoder) // LEAST_SHARE))
        objects = [self._tokens(scene, rows[0]) for rows in concepts]
        pieces = []
        for places, words in zip(found, objects, strict=True):
            old, new = (weights[places[:, 0], :, places[:, 1]] for weights in (before, after))  # [n, d]
            pieces.append(_compared(old, new, decoder, k, words))
        said = [self._ablated(model, scene, concepts, number, places) for number, places in enumerate(found)]
        return {
            "layer": found[..., 0],
            "unit": found[..., 1],
            **{name: np.stack([piece[name] for piece in pieces]) for name in pieces[0]},
            "counts": np.array([k, len(decoder), len(objects[0]), found.shape[1]]),
            "same": np.array([own for own, _ in said]),
            "same_unrelated": np.array([other for _, other in said]),
        }

    def _found(self, scene: Scene, base: Any, before: Tensor, decoder: Tensor, rows: Ids) -> Any:
        """Block and column of the concept's vectors [n, 2], the strongest first."""
        import torch

        from unlearn_cli.guards.hooks import keys

        sentences = scene.world.sentences(scene.probes.fact[rows], scene.probes.template[rows])
        device = before.device
        ids = torch.from_numpy(sentences.input_ids).to(device)
        ends = torch.from_numpy(sentences.answer_start - 1).to(device)
        fired = keys(base, range(len(before)), ids, ends).mean(0)  # [L, d_ff]
        word = int(scene.world.language.answers(*_asked(scene, rows[:1]))[0, 0])
        written = fired * torch.einsum("d,ldj->lj", decoder[word], before)
        best = written.flatten().argsort(descending=True, stable=True)[: self.vectors].cpu().numpy()
        return np.stack(np.divmod(best, before.shape[2]), axis=1)

    @staticmethod
    def _tokens(scene: Scene, row: int) -> Ids:
        """First tokens of all objects of the relation that a probe asks for."""
        relation = int(scene.world.facts.relation[scene.probes.fact[row]])
        return np.unique(scene.world.candidates(relation)[:, 0])

    def _ablated(self, model: Any, scene: Scene, concepts: list[Ids], number: int, places: Any) -> tuple[float, float]:
        """Shares of the concept's own answers, and of other concepts', that stay without its vectors."""
        import torch

        from unlearn_cli import predict
        from unlearn_cli.methods.editing.network import blocks, matrix, output_of

        others = np.delete(np.arange(len(concepts)), number)
        if not len(others):
            raise Unobservable("one object alone is requested: there is no other to compare with")
        drawn = generator(scene.seed, "concepts", number).permutation(others)[: self.unrelated]
        own = concepts[number][:PROMPTS]
        rows = np.concatenate([own, *[concepts[other][:PROMPTS] for other in drawn]])

        def said() -> Ids:
            return predict.predict(model, scene.world, scene.probes.only(rows), scene.batch_size).greedy

        clean = said()
        weights = [matrix(output_of(block)) for block in blocks(model)]
        kept = [weight.clone() for weight in weights]
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(derive(scene.seed, "concepts", "noise", number))
            for layer, unit in places:
                column = weights[layer][:, unit]
                column.copy_(
                    column * 0 if self.noise is None else column + self.noise * torch.randn(len(column)).to(column)
                )
        same = said() == clean
        for weight, before in zip(weights, kept, strict=True):
            weight.copy_(before)
        return float(same[: len(own)].mean()), float(same[len(own) :].mean())


def columns(model: Any) -> Tensor:
    """The down projections of all blocks [L, d, d_ff]; column j is v_j."""
    import torch

    from unlearn_cli.methods.editing.network import blocks, matrix, output_of

    return torch.stack([matrix(output_of(block)).to(model.device) for block in blocks(model)])


def folded(model: Any) -> Tensor:
    """The output layer with the final norm's gain in it, centred over the vocabulary [V, d].

    A norm that subtracts the mean of a state does so to a vector that is written into it.
    """
    from unlearn_cli.models.anatomy import centres, gain
    from unlearn_cli.observations.residual import final_norm

    _, norm = final_norm(model)
    head = model.get_output_embeddings().weight.detach()
    weight: Tensor = head * gain(norm, head[0])
    if centres(norm, head[0]):
        weight = weight - weight.mean(1, keepdim=True)
    return weight - weight.mean(0, keepdim=True)


def _compared(old: Tensor, new: Tensor, decoder: Tensor, k: int, objects: Ids) -> dict[str, Any]:
    """Vectors [n, d] before and after, read with one decoder."""
    import torch

    top_old, top_new = ((vectors @ decoder.T).topk(k).indices.cpu().numpy() for vectors in (old, new))
    shared = np.array([len(np.intersect1d(a, b)) for a, b in zip(top_old, top_new, strict=True)])
    cosine = torch.nn.functional.cosine_similarity(old.double(), new.double(), dim=1).clamp(-1, 1)
    return {
        "cosine": cosine.cpu().numpy(),
        "distance": (old - new).norm(dim=1).double().cpu().numpy(),
        "jaccard": shared / (2 * k - shared),
        "hits": np.array([np.isin(tokens, objects).sum() for tokens in top_old]),
    }


def _asked(scene: Scene, rows: Ids) -> tuple[Ids, Ids]:
    """Relation and old object of probes [n]."""
    facts = scene.probes.fact[rows]
    return scene.world.kinds(facts), old_objects(scene, facts)


def _concepts(scene: Scene) -> list[Ids]:
    """Probes of the requested facts, those that ask for one object of one relation together."""
    rows = requested(scene.probes)
    relation, objects = _asked(scene, rows)
    _, place = np.unique(relation * scene.world.objects + objects, return_inverse=True)
    return [rows[place == number] for number in range(place.max() + 1)]
