"""The training recipe of base and gold: optimiser, schedule, and when to stop."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from unlearn_cli.component import Count, Fraction, NonNegative, Positive, component

LARGEST_BATCH = 4096  # sentences; beyond it steps cost more than they save


class Recipe:
    """What the `train` group chooses."""

    VERSION: ClassVar[int]


@component
class NoTraining(Recipe):
    """The model is the base as it is: what it was trained on is not known here, so there is no gold to retrain."""

    VERSION: ClassVar[int] = 1


@component
class Train(Recipe):
    """How a model is fitted to a world.

    Muon (Jordan et al. 2024) on the matrices of the blocks and AdamW on the rest, warmed up and decayed linearly:
    on small fact worlds about half the steps of AdamW alone. Lengths are in passes over the trained facts, so that one
    recipe serves worlds of any size.
    """

    VERSION: ClassVar[int] = 1

    loss_on: Literal["answer", "reply", "all"] = "answer"  # the object's tokens; these and all behind; every token
    batch_size: Count | None = None  # sentences in a step; null: an eighth of the trained facts, at most 4096
    max_passes: Positive = 50.0  # budget, in passes over the trained facts
    optimizer: Literal["muon", "adamw"] = "muon"  # of the matrices in the blocks; the rest is always AdamW
    matrix_lr: Positive = 0.03  # peak learning rate of those matrices
    lr: Positive = 0.01  # peak learning rate of embeddings, norms, biases and output layer
    beta2: Fraction = 0.95  # AdamW's second-moment decay
    weight_decay: NonNegative = 0.0
    warmup_passes: NonNegative = 2.5  # linear warm-up ends here
    decay_passes: Positive = 30.0  # linear decay ends here
    final_lr: Fraction = 0.02  # share of the peak kept after the decay
    max_grad_norm: Positive | None = None  # null: no clipping
    check_every: Count = 20  # steps between checks of recall
    stop_recall: Fraction = 0.999  # stop once recall on all trained facts reaches it
    min_recall: Fraction = 0.99  # fail below it: later numbers would mean nothing

    @model_validator(mode="after")
    def _recalls(self) -> Train:
        if self.min_recall > self.stop_recall:
            raise ValueError(
                f"min_recall = {self.min_recall} is above stop_recall = {self.stop_recall}, where training stops"
            )
        return self

    def batch(self, facts: int) -> int:
        """Sentences in a step, for a world of `facts` trained facts."""
        return self.batch_size or min(LARGEST_BATCH, -(-facts // 8))
