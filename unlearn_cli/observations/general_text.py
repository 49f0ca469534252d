"""Every token of a text of the user's own, scored teacher-forced: does a model still read ordinary prose?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from unlearn_cli.component import component
from unlearn_cli.evaluation import Arrays, Ids
from unlearn_cli.observations.base import Observation, Scene, Unobservable

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

NO_TEXT = "metric.text_perplexity.path names no text"
NO_TOKENIZER = "this world's tokenizer knows its own words only; real text needs a pretrained model's"


@component
class GeneralText(Observation):
    """A text as one run of tokens, read in windows that overlap by one token, so that each but the first is scored."""

    VERSION: ClassVar[int] = 1

    path: str | None
    sha256: str | None  # of the file, so that a changed text is read again
    window: int = Field(ge=2)  # tokens read at a time, or as many as the model reads if that is fewer

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """Return `nll` [N - 1] of the text's N tokens, in nats."""
        if self.path is None:
            raise Unobservable(NO_TEXT)
        ids = tokens(scene.world.vocabulary, Path(self.path).expanduser().read_text(encoding="utf-8"))
        return {"nll": scored(model, ids, min(self.window, _longest(model)))}


def tokens(vocabulary: Any, text: str) -> Ids:
    """The text in the tokens of a pretrained tokenizer, begun as that begins every text."""
    from unlearn_cli.worlds.text.tokens import TextTokens

    if not isinstance(vocabulary, TextTokens) or vocabulary.path is None:
        raise Unobservable(NO_TOKENIZER)
    coded: Any = vocabulary.tokenizer()
    ids = np.array(coded(text, verbose=False)["input_ids"], dtype=np.int64)
    if len(ids) < 2:
        raise Unobservable(f"the text has {len(ids)} tokens, and the first is given")
    return ids


def scored(model: Any, ids: Ids, window: int) -> NDArray[np.float32]:
    """Negative log-probability [N - 1], in float32, of each token behind the first of its window."""
    import torch

    from unlearn_cli.models.forward import answer_logits

    device = next(model.parameters()).device
    found = []
    with torch.no_grad():
        for part in _windows(torch.from_numpy(ids).to(device)[None], window):
            places = torch.arange(part.shape[1] - 1, device=device)
            logps = answer_logits(model, part[:, :-1], places).float().log_softmax(-1)
            found.append(-logps.gather(-1, part[:, 1:, None])[0, :, 0])
    return torch.cat(found).cpu().numpy()


def _windows(ids: Tensor, window: int) -> Iterator[Tensor]:
    for start in range(0, ids.shape[1] - 1, window - 1):
        yield ids[:, start : start + window]


def _longest(model: Any) -> int:
    """Tokens that the model, guarded or not, can read."""
    from unlearn_cli.guards.base import Guarded

    inner = model.model if isinstance(model, Guarded) else model
    return int(getattr(inner.config, "max_position_embeddings", None) or sys.maxsize)
