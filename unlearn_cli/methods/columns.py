"""The columns of MLPs' second matrices: how active each is, and what it writes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods.gradients import chunks
from unlearn_cli.methods.scope import in_scope
from unlearn_cli.training.fit import answer_mask
from unlearn_cli.worlds.language import Sentences


@dataclass(frozen=True)
class Output:
    """The second matrix of one MLP."""

    module: torch.nn.Module
    columns: Tensor  # [hidden units, hidden size], a view of the weight: row j is W[:, j]

    @property
    def width(self) -> int:
        """Hidden units."""
        return len(self.columns)


def mlp_outputs(model: torch.nn.Module, names: Collection[str]) -> list[Output]:
    """Those whose weights have one of `names`, in order; GPT-2's Conv1D stores its weight transposed."""
    found = []
    for name, module in model.named_modules():
        weight: Any = getattr(module, "weight", None)
        if f"{name}.weight" in names and in_scope(name, "mlp_out"):
            transposed = type(module).__name__ == "Conv1D"
            found.append(Output(module, weight.detach() if transposed else weight.detach().T))
    if not found:
        raise UnlearnError("method.scope: no second matrix of an MLP is in it")
    return found


@torch.no_grad()
def scores(model: Any, outputs: Sequence[Output], sentences: Sentences, weighted: bool) -> Tensor:
    """Of each sentence and column [n, columns of all layers]: its projection on the answer, mean over its tokens."""
    embedding = model.get_output_embeddings().weight
    device, pieces = embedding.device, []
    for part in chunks(sentences):
        answers = embedding[torch.from_numpy(part.answers).to(device)]  # [n, T, hidden size]
        written = torch.cat([answers @ output.columns.T for output in outputs], dim=-1)
        if weighted:
            written = written * _activations(model, outputs, part).abs()
        mask = answer_mask(part, device)
        pieces.append(written.mean(1) if mask is None else (written * mask[..., None]).sum(1) / mask.sum(1)[:, None])
    return torch.cat(pieces)


def _activations(model: Any, outputs: Sequence[Output], sentences: Sentences) -> Tensor:
    """Inputs of the MLPs' second matrices where the answers' tokens are predicted [n, T, columns of all layers]."""
    device = outputs[0].columns.device
    positions = torch.from_numpy(sentences.positions - 1).to(device)
    kept: dict[int, Tensor] = {}

    def keep(place: int) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def hook(module: Any, inputs: tuple[Tensor, ...]) -> None:
            hidden = inputs[0]
            kept[place] = hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1]))

        return hook

    hooks = [output.module.register_forward_pre_hook(keep(place)) for place, output in enumerate(outputs)]
    model(input_ids=torch.from_numpy(sentences.through_answer).to(device)[:, :-1], use_cache=False)
    for hook in hooks:
        hook.remove()
    return torch.cat([kept[place] for place in range(len(outputs))], dim=-1)
