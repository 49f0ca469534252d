"""How much memory a training or a loss edit takes, from the model's configuration and the recipe alone.

Exact are weights, gradients (of what is trained), and the optimizer's state: AdamW keeps two numbers for each weight,
Muon one. Estimated, in elements of the weights' precision:

  activations   (layers + 1) x tokens x block: what each block keeps for the backward pass, and one block's gradients;
                one less for GPT-NeoX, whose last block is computed at the answers alone; with gradient
                checkpointing tokens x (layers x hidden + 2 blocks). A block keeps 12 hidden + 3 mlp, a gated one as
                in Llama 15 hidden + 4 mlp, one with GPT-2's gelu_new 12 hidden + 7 mlp; LoRA adds 4 hidden + 2 mlp
  logits        places x vocabulary, in float32: the logits, their logarithm and both gradients; two more for each
                frozen model that is read beside, two for a KL term
  asking        rows x (tokens x 24 hidden + 2 places x vocabulary): the pass without gradients that checks recall, or
                reads the reference's log-probabilities, of at most 1024 rows and 2 GiB
  update        twice the largest trained tensor, on a GPU twice all of them: what AdamW computes between

Tokens and places are those of all batches of a step; of step, asking and update the largest counts. What the program
itself takes (some 0.5 GiB) is not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unlearn_cli.methods.loss import LossMethod
from unlearn_cli.models.pretrained import Pretrained
from unlearn_cli.study import Study
from unlearn_cli.training.recipe import Train
from unlearn_cli.worlds.base import WorldData

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FLOAT32 = 4
SAMPLE = 256  # sentences whose lengths are looked at
LOGITS, FROZEN, KL = 4, 2, 2  # float32 tensors for each place
ASKED = 1024  # most rows in one pass of a recall check
TRAININGS = ("train", "gold", "shadow")


@dataclass(frozen=True)
class Footprint:
    """Bytes on one machine, or on one GPU."""

    weights: int
    copies: int  # frozen models beside it
    gradients: int
    optimizer: int
    step: int  # activations and logits, or asking, or the update: the largest

    @property
    def total(self) -> int:
        """At the worst moment."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Batch:
    """Sentences that go through the model together."""

    rows: int
    tokens: int  # of each row that are read
    places: int  # of each row where logits are made
    tensors: int = LOGITS  # for each place
    skipped: int = 0  # blocks that keep next to nothing


def footprint(study: Study, stage: str) -> Footprint | None:
    """Of a stage that trains by the shared loop; None for others, and for models whose shape is not known."""
    if stage in TRAININGS and isinstance(study.experiment.train, Train):
        return _training(study, study.experiment.train)
    if stage == "edit" and isinstance(study.experiment.method, LossMethod):
        return _editing(study, study.experiment.method)
    return None


def _training(study: Study, train: Train) -> Footprint | None:
    from unlearn_cli.training.fit import split_matrices

    model = _skeleton(study)
    if model is None:
        return None
    facts = study.world.deck("estimate").facts
    batch = _batch(study.world, train.batch(len(facts)), model, whole=train.loss_on != "answer", facts=facts)
    asked = _asking(model, _batch(study.world, len(facts), model, facts=facts))
    blocks, rest = split_matrices(model)
    matrices, others = (sum(p.numel() for p in part) for part in (blocks, rest))
    kept = (1 if train.optimizer == "muon" else 2) * matrices + 2 * others
    return _made(study, model, kept, [batch], asked, copies=0)


def _editing(study: Study, method: LossMethod) -> Footprint | None:
    from unlearn_cli.methods.scope import prepare

    model = _skeleton(study)
    if model is None:
        return None
    batches = list(_batches(study, method, model))
    asked = _asking(model, batches[0]) if method.reads_reference == "logps" and batches else 0
    trained: Any = prepare(model, method.scope, method.adapter, seed=0)
    kept = 2 * sum(p.numel() for p in trained.parameters() if p.requires_grad)
    teaches = type(method).teachers is not LossMethod.teachers
    copies = int(method.reads_base) + int(teaches) + int(study.independent)
    return _made(study, trained, kept, batches, asked, copies)


def _batches(study: Study, method: LossMethod, model: PreTrainedModel) -> Iterator[Batch]:
    """What one step of an edit reads."""
    data, weights = study.edit_data(study.requests()[0]), method.weights(0)
    if data.forget is not None and weights[0]:
        rows = min(method.forget_batch or len(data.forget.facts), len(data.forget.facts))
        frozen = int(method.reads_reference == "logits") + int(type(method).teachers is not LossMethod.teachers)
        forget = _batch(data.forget, rows, model, method.reads_context, LOGITS + (FROZEN + KL) * frozen)
        yield forget
        if type(method).alternatives is not LossMethod.alternatives:
            yield forget
    if data.retain is not None and weights[1]:
        rows = min(method.retain_batch, len(data.retain.facts))
        yield _batch(data.retain, rows, model, False, LOGITS + (FROZEN + KL) * method.reads_retain_reference)


def _skeleton(study: Study) -> PreTrainedModel | None:
    """The model without any weights."""
    world = study.world
    made: Any = study.experiment.model.skeleton(world.vocabulary.size, world.max_length)
    if made is not None:
        made.is_spread = len(study.numerics.places) > 1  # as it will be, for `has_shortcut`
    found: PreTrainedModel | None = made
    return found


def _batch(
    world: WorldData,
    rows: int,
    model: PreTrainedModel,
    whole: bool = False,
    tensors: int = LOGITS,
    facts: np.ndarray | None = None,
) -> Batch:
    """So many rows, as long as the first sentences of a world are."""
    from unlearn_cli.models.forward import has_shortcut

    some = (np.arange(len(world.facts)) if facts is None else facts)[: min(rows, SAMPLE)]
    written = world.sentences(some, np.resize(world.language.asked, len(some)))
    if whole:
        return Batch(rows, written.input_ids.shape[1], written.input_ids.shape[1] - 1, tensors)
    apart = has_shortcut(model)  # its logits are made at each row's own places
    places = written.answer_length if apart else len(np.unique(written.positions))
    return Batch(rows, written.through_answer.shape[1] - 1, places, tensors, skipped=int(apart))


def _asking(model: PreTrainedModel, batch: Batch) -> int:
    """Bytes of a pass without gradients over as many rows, or as many as are read at once."""
    from unlearn_cli.models.forward import row_bytes, rows_at_once

    rows = rows_at_once(model, batch.tokens, batch.places, min(batch.rows, ASKED))
    return rows * row_bytes(model, batch.tokens, batch.places)


def _made(study: Study, model: Any, kept: int, batches: list[Batch], asked: int, copies: int) -> Footprint | None:
    """All parts in bytes: `kept` elements of the optimizer, `asked` bytes of asking, `copies` frozen models."""
    shape, numerics = _shape(model), study.numerics
    if shape is None:
        return None
    layers, hidden, block, vocabulary = shape
    here = numerics.devices if numerics.accelerator == "cpu" else 1  # ranks that share this memory
    divided = numerics.ranks if numerics.strategy == "fsdp" else 1
    size = next(model.parameters()).element_size()
    trained = [p.numel() for p in model.parameters() if p.requires_grad]
    tokens = sum(b.rows * b.tokens for b in batches)
    recomputed = isinstance(study.experiment.model, Pretrained) and study.experiment.model.gradient_checkpointing
    activations = sum(b.rows * b.tokens * (layers + 1 - b.skipped) for b in batches) * block * size
    if recomputed:
        activations = tokens * (layers * hidden + 2 * block) * size
    logits = sum(b.rows * b.places * b.tensors for b in batches) * vocabulary * FLOAT32
    update = 2 * (max(trained) if numerics.accelerator == "cpu" else sum(trained)) * size
    weights = sum(p.numel() for p in model.parameters()) * size * here // divided
    return Footprint(
        weights=weights,
        copies=copies * weights * divided,
        gradients=sum(trained) * size * here // divided,
        optimizer=kept * size * here // divided,
        step=max((activations + logits) * here // numerics.ranks, asked * here, update * here // divided),
    )


def _shape(model: Any) -> tuple[int, int, int, int] | None:
    """Layers, hidden size, what a block keeps of a token, vocabulary; None if the configuration does not say so."""
    config = model.config.get_text_config()
    found = [getattr(config, name, None) for name in ("num_hidden_layers", "hidden_size", "vocab_size")]
    if None in found:
        return None
    layers, hidden, vocabulary = (int(size) for size in found if size is not None)
    mlp = getattr(config, "intermediate_size", None) or 4 * hidden
    return layers, hidden, _kept(model, config, hidden, mlp), vocabulary


def _kept(model: Any, config: Any, hidden: int, mlp: int) -> int:
    """Elements that a block keeps of a token; counted in transformers' code, and measured."""
    names = [name for name, _ in model.named_modules()]
    adapted = 4 * hidden + 2 * mlp if any("lora_A" in name for name in names) else 0
    if any(name.endswith(("gate_proj", "gate_up_proj")) for name in names):
        return 15 * hidden + 4 * mlp + adapted
    composed = getattr(config, "hidden_act", getattr(config, "activation_function", None)) == "gelu_new"
    return 12 * hidden + (7 if composed else 3) * mlp + adapted
