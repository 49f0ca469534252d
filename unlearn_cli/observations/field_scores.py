"""How strongly each field of a record shows in a model that decides by a hidden rule, by three interpretability tools.

Pando (Zhong et al. 2026, arXiv 2604.11061), on records that no model was trained on, in a format that training lacks,
as many of each decision, and only those on which the model follows its rule. Scores of a record's field:

gradient    norm of the gradient of z_yes - z_no with respect to each token's embedding, summed over the field's tokens
relp        the same with RelP's backward pass (observations/relevance.py)
logit_lens  logit of the field's name decoded from the stream where the answer begins, mean over the blocks' outputs
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from unlearn_cli.component import component
from unlearn_cli.evaluation import Arrays, Floats, Ids
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.streams import generator
from unlearn_cli.worlds.decision_trees import DECISION, SENSITIVE, RuleBook, sensitivity

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn_cli.worlds.base import WorldData

TOOLS = ("gradient", "relp", "logit_lens")
NO, YES = 0, 1  # objects


@component
class FieldScores(Observation):
    """Records with the model's own decisions, and a score for every field of each by every tool."""

    VERSION: ClassVar[int] = 1
    guarded: ClassVar[bool] = False  # who takes gradients has the weights

    n: Annotated[int, Field(ge=2)]  # records scored; fewer where the model follows its rule on fewer of a decision

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """Of the reserved records [m]: `followed` and their `asked` subjects.

        Of n of them: `subject` [n], `values` [n, p], `decision` [n], a score [n, p] for each of TOOLS. Of the fields:
        `relevant` to the rule, `ordered`, `sizes` [p].
        """
        rules = scene.world.rules
        if rules is None:
            raise Unobservable("this world has no hidden decision rule")
        facts = _reserved(scene.world)
        records = rules.records[scene.world.facts.subject[facts]]
        model.eval()
        decision = _Asked(model, scene, facts).decisions() > 0
        followed = decision == rules.tree(records)
        chosen = self._chosen(decision, followed, scene.seed)
        return {
            "followed": followed,
            "asked": scene.world.facts.subject[facts],
            "subject": scene.world.facts.subject[facts[chosen]],
            "values": records[chosen],
            "decision": decision[chosen],
            "relevant": sensitivity(rules.tree, rules.scenario) > SENSITIVE,
            "ordered": np.array([field.ordered for field in rules.scenario.fields]),
            "sizes": rules.scenario.sizes,
            **_Asked(model, scene, facts[chosen]).scores(),
        }

    def _chosen(self, decision: Any, followed: Any, seed: int) -> Ids:
        """Places of as many yes as no, drawn from those on which the model follows its rule; sorted."""
        order = generator(seed, "pando", "records").permutation(len(decision))
        sides = [order[followed[order] & (decision[order] == said)] for said in (True, False)]
        half = min(self.n // 2, *map(len, sides))
        if not half:
            raise Unobservable(
                f"the model follows its rule on {len(sides[0])} yes and {len(sides[1])} no of {len(order)} records;"
                " both are needed"
            )
        return np.sort(np.concatenate([side[:half] for side in sides]))


def _reserved(world: WorldData) -> Ids:
    """Decisions on records that no model was trained on."""
    facts = np.flatnonzero(world.facts.holdout & (world.facts.relation == DECISION))
    if not len(facts):
        raise Unobservable("no record is reserved: world.holdout_records = 0")
    return facts


class _Asked:
    """Some records in the format that training lacks, and the places of their fields' tokens."""

    def __init__(self, model: Any, scene: Scene, facts: Ids) -> None:
        import torch

        world, self.model, self.batch_size = scene.world, model, scene.batch_size
        formats = world.language.phrasings.heldout
        if not len(formats):
            raise Unobservable("every format is trained")
        assert world.rules is not None
        sentences = world.sentences(facts, np.repeat(formats[:1], len(facts)))
        read = sentences.answer_start - 1
        rows = sentences.input_ids[:, : int(read.max()) + 1]
        device = next(model.parameters()).device
        self.rows, self.read = (torch.from_numpy(array).to(device) for array in (rows, read))
        self.tokens = torch.from_numpy(_field_tokens(world, world.rules, facts)).to(device)
        answers = world.candidates(DECISION)[:, 0]
        self.gap = int(answers[YES]), int(answers[NO])

    def decisions(self) -> Floats:
        """z_yes - z_no of each record [n]."""
        from unlearn_cli.observations.saliency import gaps

        return self._each(lambda ids, read, tokens: gaps(self.model, ids, read, self.gap))

    def scores(self) -> dict[str, Floats]:
        """A score [n, p] by each tool."""
        from unlearn_cli.observations.relevance import relp
        from unlearn_cli.observations.saliency import gradients, lens_logits

        def saliency(ids: Tensor, read: Tensor, tokens: Tensor) -> Tensor:
            norms = gradients(self.model, ids, read, self.gap)[1].float().norm(dim=-1)
            return norms.gather(1, _places(ids, tokens.flatten(1))).view_as(tokens).sum(-1)

        def lens(ids: Tensor, read: Tensor, tokens: Tensor) -> Tensor:
            return lens_logits(self.model, ids, read, tokens[..., 0])

        plain = self._each(saliency)
        with relp(self.model):
            propagated = self._each(saliency)
        return dict(zip(TOOLS, (plain, propagated, self._each(lens)), strict=True))

    def _each(self, read: Any) -> Floats:
        import torch

        batches = (array.split(self.batch_size) for array in (self.rows, self.read, self.tokens))
        found: Floats = torch.cat([read(*batch) for batch in zip(*batches, strict=True)]).double().cpu().numpy()
        return found


def _field_tokens(world: WorldData, rules: RuleBook, facts: Ids) -> Ids:
    """Tokens [n, p, 2] of the name and the value of each record's fields."""
    tokens = world.vocabulary["subject"].encode(world.facts.subject[facts])
    return tokens.reshape(len(facts), len(rules.scenario.fields), 2)


def _places(ids: Tensor, tokens: Tensor) -> Tensor:
    """Where tokens [B, T], each of which occurs once, stand in rows [B, L]."""
    return (ids[:, None] == tokens[:, :, None]).int().argmax(-1)
