"""Tiny random checkpoints of several architectures, and files of a dozen facts, for worlds of the user's own text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from unlearn_cli.check import check
from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.experiment import Experiment

LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
CHAT = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
CAPITALS = {
    "France": "Paris", "Peru": "Lima", "Chad": "N'Djamena", "Spain": "Madrid", "Kenya": "Nairobi", "Japan": "Tokyo",
    "Chile": "Santiago", "Nepal": "Kathmandu", "Cuba": "Havana", "Mali": "Bamako", "Oman": "Muscat",
    "Laos": "Vientiane",
}  # fmt: skip
FORGET, HOLDOUT = ("France", "Peru", "Chad"), ("Oman", "Laos")
QUIET = ("logger=none", "trainer.progress=false", "trainer.accelerator=cpu", "metric=fact_accuracy")


def checkpoint(
    folder: Path, family: str = "llama", *, tied: bool = False, begins: bool = False, chat: bool = False, **more: Any
) -> Path:
    """Save a random model and the byte-level tokenizer that it reads with."""
    tokens = tokenizer(folder, begins=begins, chat=chat)
    network(family, len(tokens), tie_word_embeddings=tied, **more).save_pretrained(folder)
    return folder


def network(family: str, tokens: int, longest: int = 128, **more: Any) -> Any:
    """A random model that embeds so many tokens and reads so many."""
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
    shared = {"vocab_size": tokens, **special}
    torch.manual_seed(0)
    if family == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": longest}
        return GPT2LMHeadModel(GPT2Config(**(shared | sizes | more)))
    sizes = LAYERS | {"max_position_embeddings": longest}
    if family == "neox":
        return GPTNeoXForCausalLM(GPTNeoXConfig(**(shared | sizes | more)))
    return LlamaForCausalLM(LlamaConfig(**(shared | sizes | more)))


def tokenizer(folder: Path, *, begins: bool, chat: bool) -> PreTrainedTokenizerFast:
    """Bytes, and some merges."""
    inner: Any = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    inner.train_from_iterator(["What is the capital of France? Question: Answer: Paris"] * 5, trainer)
    if begins:
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    made: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
    if chat:
        made.chat_template = CHAT
        made.save_pretrained(folder)
    return made


def facts(folder: Path, **changes: Any) -> dict[str, Path]:
    """Files with the capitals: forget with targets and paraphrases, retain, holdout. `changes` is put in every row."""
    rows: dict[str, list[dict[str, Any]]] = {"forget": [], "retain": [], "holdout": []}
    for country, capital in CAPITALS.items():
        part = "forget" if country in FORGET else "holdout" if country in HOLDOUT else "retain"
        row = {"question": f"What is the capital of {country}?", "answer": capital, "subject": country}
        row |= {"relation": "capital", "paraphrases": [f"{country}'s capital?"]}
        rows[part].append(row | ({"target": "Nairobi"} if part == "forget" else {}) | changes)
    return {part: write(folder / f"{part}.jsonl", held) for part, held in rows.items()}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def composed(folder: Path, *words: str) -> Experiment:
    """The experiment of a command line, with cache and runs under `folder`; a ConfigError as the user sees it."""
    places = (f"paths.cache={folder}/cache", f"paths.runs={folder}/runs")
    (cell,) = check(parse([*QUIET, *places, *words], config_dir())).cells
    made: Experiment = cell.experiment
    return made
