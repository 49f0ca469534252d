"""What two connected processes train, compared with what one trains: `python rank_trial.py FOLDER RANK NAME...`.

Both ranks go through the named trials; the first one also does each alone, and writes the differences to FOLDER.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments import quick
from torch import Tensor, distributed

from unlearn_cli.edits.forget import Forget
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.base import EditContext
from unlearn_cli.methods.code_eraser import CodeEraser
from unlearn_cli.methods.llmu import LLMU
from unlearn_cli.methods.loss import Adapter
from unlearn_cli.methods.mask import Mask
from unlearn_cli.methods.npo import NPO
from unlearn_cli.methods.opt_out import OptOut
from unlearn_cli.methods.rmu import RMU
from unlearn_cli.study import Study
from unlearn_cli.training.fit import fit
from unlearn_cli.training.loop import Row, Runtime
from unlearn_cli.training.ranks import ALONE, Crew
from unlearn_cli.training.recipe import Train

# Not Muon: it iterates in bfloat16, where a last bit becomes a hundredth.
ADAMW = {"optimizer": "adamw", "matrix_lr": 0.003, "min_recall": 0.0, "check_every": 3, "max_grad_norm": 0.5}
Trained = tuple[dict[str, Tensor], list[Row], list[Any]]  # weights, curves, what was counted


def base(folder: Path, runtime: Runtime, **recipe: Any) -> Trained:
    """A base of six steps or so; 21 sentences make ten and eleven."""
    experiment = quick(folder)
    train = Train(**({"batch_size": 21, "max_passes": 4.0} | ADAMW | recipe))
    fitted = fit(experiment.model, experiment.world.build(0), train, ("base",), runtime)
    return fitted.model.state_dict(), runtime.curves, [fitted.steps, fitted.tokens, fitted.recall, fitted.ledger]


def edit(folder: Path, runtime: Runtime, method: Any, facts: int = 5) -> Trained:
    """Five facts on two ranks: two and three."""
    study = Study.of(quick(folder, method=method, edit=Forget(n=facts)))
    model = study.experiment.model.build(study.world.vocabulary.size, study.world.max_length, 0)
    report = method.edit(model, study.edit_data(study.request), EditContext(runtime, 0, folder))
    return model.state_dict(), runtime.curves, [report.steps, report.forward_tokens, report.backward_tokens]


def edits(method: Any, **more: Any) -> Callable[[Path, Runtime], Trained]:
    return lambda folder, runtime: edit(folder, runtime, method, **more)


SHORT = {"steps": 4, "retain_batch": 7}
TRIALS: dict[str, Callable[[Path, Runtime], Trained]] = {
    "base": base,
    "base, all tokens": lambda folder, runtime: base(folder, runtime, loss_on="all"),
    "base, one sentence": lambda folder, runtime: base(folder, runtime, batch_size=1, max_passes=0.1),
    "npo": edits(NPO(**SHORT)),
    "npo, one fact": edits(NPO(**SHORT), facts=1),
    "npo, clipped": edits(NPO(**SHORT, max_grad_norm=0.05)),
    "npo, lora": edits(NPO(**SHORT, adapter=Adapter(rank=2))),
    "npo, masked": edits(NPO(**SHORT, mask=Mask(kind="random", share=0.5))),
    "npo, until forgotten": edits(NPO(**SHORT | {"steps": 40}, lr=3e-3, stop_loss=0.5)),
    "rmu": edits(RMU(**SHORT, layer=0, scope="all")),  # the second block takes no part in it
    "code_eraser": edits(CodeEraser(**SHORT)),
    "llmu": edits(LLMU(**SHORT)),
    "opt_out": edits(OptOut(**SHORT, projections=10)),
}


def main(folder: Path, rank: int, strategy: str, names: list[str]) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=300))
    told = {}
    for name in names:
        both = _go(name, folder, Runtime("train", Numerics("cpu", 2, 1, "fp32", 1, strategy), crew=Crew(rank, 2)))
        if rank == 0:
            told[name] = _compared(both, _go(name, folder, Runtime("train", Numerics("cpu", 1, 1, "fp32"), crew=ALONE)))
    if rank == 0:
        (folder / "told.json").write_text(json.dumps(told))
    distributed.barrier()


def _go(name: str, folder: Path, runtime: Runtime) -> Trained:
    return TRIALS[name](folder, runtime)


def _compared(both: Trained, alone: Trained) -> dict[str, Any]:
    assert [list(row) for row in both[1]] == [list(row) for row in alone[1]]
    rows = [np.array([list(row.values()) for row in curves if row], dtype=object) for curves in (both[1], alone[1])]
    values = [np.concatenate([np.array(row, dtype=float) for row in side]) for side in rows]
    counted = [[np.asarray(item).tolist() for item in side[2]] for side in (both, alone)]
    return {
        "steps": len(alone[1]),
        "curves": float(np.abs(values[0] - values[1]).max()),
        "weights": max(
            float((_settled(name, both[0][name]) - _settled(name, alone[0][name])).abs().max()) for name in alone[0]
        ),
        "counted": counted[0] == counted[1],
    }


def _settled(name: str, weights: Tensor) -> Tensor:
    """Without the biases of keys: no softmax sees them, so their gradient is rounding, and Adam makes steps of it."""
    if not name.endswith("query_key_value.bias"):
        return weights
    split = weights.clone().view(2, 3, -1)  # heads; queries, keys, values
    split[:, 1] = 0
    return split


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
