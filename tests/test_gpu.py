"""What must hold on a GPU; run by `make gpu-check`, which prints the figures."""

import copy
import time
from pathlib import Path

import pytest
import torch

from unlearn_cli import run
from unlearn_cli.edits.forget import Forget
from unlearn_cli.experiment import Evaluate, Experiment, Paths, Trainer
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.npo import NPO
from unlearn_cli.metrics.fact_accuracy import FactAccuracy
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.models.spread import spread
from unlearn_cli.training.fit import fit
from unlearn_cli.training.loop import Runtime
from unlearn_cli.training.recipe import Train
from unlearn_cli.worlds.tabular import Tabular

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

PYTHIA_31M = GPTNeoX(hidden_size=256, layers=6, heads=8, mlp_size=1024, parallel_residual=True)


def outcome(folder: Path, accelerator: str, precision: str) -> dict:
    experiment = Experiment(
        world=Tabular(subjects=200, objects=20, holdout_subjects=50),
        edit=Forget(),
        model=GPTNeoX(hidden_size=64, heads=2, mlp_size=256),
        method=NPO(),
        train=Train(batch_size=200, matrix_lr=0.02, decay_passes=60.0, max_passes=100.0, warmup_passes=5.0),
        metric={"fact_accuracy": FactAccuracy()},
        trainer=Trainer(accelerator=accelerator, precision=precision),
        evaluate=Evaluate(),
        paths=Paths(cache=str(folder / "cache"), runs=str(folder / "runs")),
    )
    result = run(experiment)
    assert result.status == "ok", result.error
    return result.metrics


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_same_metrics_as_on_the_cpu(tmp_path, precision):
    cpu, gpu = outcome(tmp_path, "cpu", "fp32"), outcome(tmp_path, "cuda", precision)
    for role in ("base", "gold"):
        for split in ("forget", "retain", "edited_para"):
            mine, theirs = (found[f"fact_accuracy/{split}"][role] for found in (gpu, cpu))
            assert theirs["ci"][0] - 0.02 <= mine["value"] <= theirs["ci"][1] + 0.02
    print(f"\n{precision}: base recall {gpu['fact_accuracy/retain']['base']['value']:.4f}")


def test_blocks_on_two_devices_give_the_same_gradients():
    """One GPU and the CPU stand for two GPUs."""
    plain = PYTHIA_31M.build(1000, 32, seed=0)
    model = spread(copy.deepcopy(plain), ("cuda:0", "cpu"))
    ids = torch.randint(1000, (8, 32), generator=torch.Generator().manual_seed(0))
    for network, place in ((plain, "cpu"), (model, "cuda:0")):
        logits = network(input_ids=ids.to(place), use_cache=False).logits
        assert logits.device == torch.device(place)
        logits.log_softmax(-1)[..., 0].sum().backward()
    kinds = {p.device.type for p in model.parameters()}
    assert kinds == {"cuda", "cpu"}
    for mine, own in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad.cpu(), own.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("loss_on", ["answer", "all"])
def test_throughput_of_pythia_31m(loss_on):
    world = Tabular(subjects=100_000, relations=6, objects=400).build(0)
    torch.cuda.reset_peak_memory_stats()
    runtime = Runtime("train", Numerics("cuda", 1, 1, "bf16"))
    recipe = Train(batch_size=4096, max_passes=0.7, loss_on=loss_on, min_recall=0.0)
    start = time.perf_counter()
    fitted = fit(PYTHIA_31M, world, recipe, ("base",), runtime)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    parameters = sum(p.numel() for p in fitted.model.parameters())
    flops = 6 * parameters * fitted.tokens / seconds
    print(f"\npythia_31m, {loss_on}: {fitted.tokens / seconds:,.0f} tokens/s, {flops / 1e12:.1f} TFLOP/s,")
    print(f"{flops / peak_flops():.1%} of {peak_flops() / 1e12:.0f} TFLOP/s measured,", end=" ")
    print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
    assert fitted.tokens > 0 and torch.cuda.max_memory_allocated() < 40 * 2**30


def peak_flops() -> float:
    """bf16 matrix products that this device reaches."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    a @ a
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(10):
        a @ a
    torch.cuda.synchronize()
    return 10 * 2 * 8192**3 / (time.perf_counter() - start)
