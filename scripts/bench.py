"""Measure speed as ratios within one run: `make bench`. Prints the Markdown table that the README quotes.

Absolute times on a shared machine say little; each row compares two ways of doing the same thing, or one thing with
the machine's own limit, measured in turn and repeated, best of each.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from unlearn_cli.edits.forget import Forget
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.predict import predict
from unlearn_cli.splits import ProbeSizes, build_probes
from unlearn_cli.streams import generator
from unlearn_cli.training.fit import read_answers
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.exposure import Exposure
from unlearn_cli.worlds.language import OBJECT, RELATION, SUBJECT, special
from unlearn_cli.worlds.tabular import Tabular

ROWS = 500  # sentences in a training step of tabular_small
PAPER = {"subjects": 100_000, "relations": 6, "objects": 400, "holdout_subjects": 1_000}  # tabular_paper
SENTENCES, BATCH = 600_000, 4_096
RUNS = 12  # of a sweep


def main() -> int:
    """Run every comparison and print one row for each."""
    torch.set_num_threads(1)
    print("| what | this | compared with | ratio |")
    print("|---|---|---|---|")
    for measure in (worlds, training, reference, asking, commands, sweeps):
        told = measure()
        print(told if isinstance(told, str) else "\n".join(told), flush=True)
    return 0


def best(work: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the fastest repeat."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def row(what: str, mine: float, unit: str, other: str, theirs: float) -> str:
    """One line: seconds of both, and how many times faster mine is."""
    return f"| {what} | {mine:.3g} {unit} | {other}: {theirs:.3g} {unit} | {theirs / mine:.1f}x |"


def worlds() -> list[str]:
    """Worlds from nothing to token ids, against plain Python loops over facts and sentences."""
    changes = ({}, {"subjects": 10_000}, {"exposure": Exposure(mean=5)})
    paper, tenth, brief = (Tabular(**(PAPER | change)) for change in changes)
    whole, part = best(lambda: paper.build(0), 3), best(lambda: tenth.build(0), 3)
    world, rare = paper.build(0), brief.build(0)
    mine, tokens = best(lambda: _write(world, SENTENCES), 3), _write(world, SENTENCES)
    loop = best(lambda: _write_one_by_one(world, SENTENCES // 600), 3) * 600
    scarce, last = best(lambda: _write(rare, SENTENCES), 3), best(lambda: _last_batch(world), 3)
    return [
        row("build tabular_paper, 606,000 facts", whole, "s", "Python loop", best(_loop_over_facts, 1)),
        row("build a tenth of its subjects", part, "s", "all of them", whole),
        row(f"deal and write {tokens / 1e6:.1f} million tokens", mine, "s", "sentence by sentence", loop),
        row("the same at 5 exposures a fact", scarce, "s", "500 exposures", mine),
        row(f"the last {BATCH:,} of its 3e8 sentences", last, "s", f"the first {SENTENCES:,}", mine),
        f"| memory to build it and write a batch | {_peak(paper) / 1e6:.0f} MB | | |",
    ]


def _write(world: WorldData, sentences: int) -> int:
    """Token ids of the first sentences of a new deck, in batches; returns how many tokens."""
    deck, tokens = world.deck("bench", time.perf_counter_ns()), 0
    for start in range(0, sentences, BATCH):
        tokens += int(world.write(deck.deal(start, min(start + BATCH, sentences))).length.sum())
    return tokens


def _write_one_by_one(world: WorldData, sentences: int) -> None:
    """The same, each sentence composed as text and then looked up word by word."""
    cards = world.deck("bench").deal(0, sentences)
    surface = world.vocabulary.surface()
    number = {text: index for index, text in enumerate(surface)}
    facts, first = world.facts, world.relations.first
    roles = world.vocabulary.roles
    for fact, template in zip(cards.facts, cards.templates, strict=True):
        relation = facts.relation[fact]
        slots = {
            SUBJECT: roles["subject"].encode(facts.subject[fact : fact + 1])[0],
            RELATION: [roles["relation"].start + relation],
            OBJECT: [roles["object"].start + first[relation] + facts.object[fact]],
        }
        words = []
        for item in world.language.forms.items(np.array([template]))[0]:
            tokens = slots.get(item, [roles["filler"].start + item if item >= 0 else special(0) - item])
            words += [surface[token] for token in tokens]
        [number[word] for word in " ".join(words).split()]


def _loop_over_facts() -> None:
    """Draw as many facts one by one."""
    rng, facts = random.Random(0), []
    for subject in range(PAPER["subjects"] + PAPER["holdout_subjects"]):
        for relation in range(PAPER["relations"]):
            facts.append((subject, relation, rng.randrange(PAPER["objects"])))


def _last_batch(world: WorldData) -> None:
    deck = world.deck("bench", time.perf_counter_ns())
    world.write(deck.deal(len(deck) - BATCH, len(deck)))


def _peak(recipe: Tabular) -> int:
    """Bytes that building and a first batch hold at most."""
    tracemalloc.start()
    _write(recipe.build(0), BATCH)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def training() -> str:
    """A step on the answers with the exact shortcut, against the plain forward of the whole row."""
    world, network = Tabular().build(0), _network()
    sentences = world.write(world.deck("bench").deal(0, ROWS))
    cpu = torch.device("cpu")

    def short() -> None:
        logits, labels = read_answers(network, sentences, cpu)
        cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()

    def plain() -> None:
        ids = torch.from_numpy(sentences.through_answer)
        logits = network(input_ids=ids[:, :-1], use_cache=False).logits[:, -1]
        cross_entropy(logits, ids[:, -1]).backward()

    return row("one training step, answer loss", best(short) * 1e3, "ms", "plain forward", best(plain) * 1e3)


def reference() -> str:
    """NPO's reference log-probabilities looked up, against a reference model asked every step."""
    world, network = Tabular().build(0), _network()
    frozen = copy.deepcopy(network)
    sentences = world.sentences(np.arange(100), np.zeros(100, dtype=np.int64))
    cpu = torch.device("cpu")

    def cached() -> None:
        read_answers(network, sentences, cpu)[0].logsumexp(-1).sum().backward()

    def asked() -> None:
        with torch.no_grad():
            read_answers(frozen, sentences, cpu)
        cached()

    mine, theirs = best(cached, 20), best(asked, 20)
    return row("one NPO step, 50 + 50 facts", mine * 1e3, "ms", "reference asked each step", theirs * 1e3)


def asking() -> str:
    """All probes of a run in batches, against one `generate` call for each."""
    world, network = Tabular().build(0), _network()
    request = Forget().resolve(world, generator(0, "edit"))
    probes = build_probes(world, request, np.arange(100), ProbeSizes(300, 2))
    batched = best(lambda: predict(network, world, probes, 512), 2) / len(probes)
    sentences = world.sentences(probes.fact[:50], probes.template[:50])
    prompts = torch.from_numpy(sentences.input_ids[:, : sentences.answer_start[0]])

    def one_by_one() -> None:
        for prompt in prompts:
            mask = torch.ones_like(prompt[None])
            network.generate(prompt[None], attention_mask=mask, max_new_tokens=1, do_sample=False)

    return row("ask one probe", batched * 1e3, "ms", "generate one by one", best(one_by_one, 1) / 50 * 1e3)


def commands() -> list[str]:
    """Whole commands, against the bare import of torch."""
    with tempfile.TemporaryDirectory() as folder:
        torch_import = _seconds([sys.executable, "-c", "import torch"])
        run = [*_unlearn(), f"paths.cache={folder}/cache", f"paths.runs={folder}/runs", "logger=none"]
        tiny, small = [*run, "world=tabular_tiny"], run
        tiny_cold, small_cold = _seconds(tiny), _seconds(small)
        return [
            row("`unlearn --help`", _seconds([*_unlearn(), "--help"]), "s", "torch import", torch_import),
            row("a misspelt option", _seconds([*_unlearn(), "method=npoo"]), "s", "torch import", torch_import),
            row("tabular_tiny again, all cached", _seconds(tiny), "s", "cold", tiny_cold),
            row("tabular_small again, all cached", _seconds(small), "s", "cold, gold included", small_cold),
        ]


def sweeps() -> list[str]:
    """What a run of a sweep takes beyond its own work: everything is cached, so that the rest is all there is."""
    with tempfile.TemporaryDirectory() as folder:
        one = [*_unlearn(), "world=tabular_tiny", "method=noop", "metric=fact_accuracy", "logger=none"]
        one += [f"paths.cache={folder}/cache", f"paths.runs={folder}/runs"]
        many = [*one, "-m", f"evaluate.bootstrap_samples=range(1,{RUNS + 1})"]
        _seconds(many)
        alone = _seconds([*one, "evaluate.bootstrap_samples=1"])
        each = _seconds(many) / RUNS
        told = [row(f"a cached run in a sweep of {RUNS}", each, "s", "as a command of its own", alone)]
        if shutil.which("sinfo") and not subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
            submitted = _submission(many, Path(folder))
            told.append(row(f"hand a run of {RUNS} to SLURM", submitted, "s", "as a cached command", alone))
        return told


def _submission(command: list[str], folder: Path) -> float:
    """Seconds for each run until its job is in the queue, where it is held and then cancelled."""
    seconds = _seconds([*command, "slurm=cluster", "slurm.lines=[--hold]", f"hydra.sweep.dir={folder}/submitted"])
    jobs = json.loads((folder / "submitted" / "jobs.json").read_text())
    subprocess.run(["scancel", *{job.partition("_")[0] for job in jobs.values()}], check=True)
    return seconds / RUNS


def _network() -> torch.nn.Module:
    world = Tabular().build(0)
    return GPTNeoX().build(world.vocabulary.size, world.max_length, 0).eval()


def _unlearn() -> list[str]:
    return [sys.executable, "-m", "unlearn_cli"]


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    root = Path(__file__).parent.parent
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, cwd=root)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
