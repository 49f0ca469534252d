"""Several rows of one kind about one subject: they are one relation to everybody who compares facts."""

import json

import numpy as np
import pytest
from text_samples import FORGET, checkpoint, composed, facts, tokenizer, write
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from unlearn_cli.errors import ConfigError
from unlearn_cli.methods.editing.prompts import others
from unlearn_cli.neighbourhood import neighbourhoods
from unlearn_cli.pipeline import run
from unlearn_cli.schedule import probes_of_each
from unlearn_cli.splits import ProbeSizes, build_probes
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.text.build import Reading, build
from unlearn_cli.worlds.text.items import Item


def item(part, subject, turn, relation=""):
    return Item(part, f"{turn} of {subject}?", f"{turn}", subject=subject, relation=relation, wrong=["9"])


def world():
    """Ann: three rows, requested; Bob: three; Cid: one; Dan: one of another relation; Eve: two, held out."""
    items = [item("forget", "Ann", turn) for turn in range(3)]
    items += [item("retain", "Bob", turn) for turn in range(3)] + [item("retain", "Cid", 0)]
    items += [item("retain", "Dan", 0, "born"), *(item("holdout", "Eve", turn) for turn in range(2))]
    return build(items, Reading(None, "bare", "none", 2), 1, 0)


def test_rows_of_a_subject_have_numbers_of_their_own_and_one_kind():
    made = world()
    pairs = set(zip(made.facts.subject.tolist(), made.facts.relation.tolist(), strict=True))
    assert len(pairs) == len(made.facts)
    kinds = made.kinds(np.arange(len(made.facts)))
    assert len(set(kinds[[0, 1, 2, 3, 4, 5, 6, 8, 9]].tolist())) == 1 and kinds[7] != kinds[0]
    assert (made.relations.first[made.facts.relation] == made.relations.first[kinds]).all()


def test_what_is_near_does_not_hang_on_the_place_in_a_file():
    made = world()
    parts = neighbourhoods(made, EditRequest("forget", np.array([0])))
    assert parts["same_subject"].tolist() == [1, 2]
    assert sorted([*parts["same_value_old"], *parts["same_relation"]]) == [3, 4, 5, 6]
    assert parts["same_value_old"].tolist() == [3, 6]  # which answer "0", too
    assert parts["unrelated"].tolist() == [7] and parts["holdout"].tolist() == [8, 9]


def test_other_relations_of_a_subject_are_those_that_it_has():
    made = world()
    rows, owner = others(made, np.array([0, 6, 3]), 0, "answer", "cpu")
    assert owner.tolist() == [0, 0, 2, 2]  # two more of Ann and of Bob, none of Cid
    assert len(rows.ids) == 4
    assert others(made, np.array([6, 7]), 0, "answer", "cpu") is None


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("llama"))


def finished(folder, llama, files, *words):
    given = [f"world.{part}={path}" for part, path in files.items()]
    return run(composed(folder, "world=qa", *given, f"model.path={llama}", *words))


def test_membership_is_tested_on_every_row(tmp_path, llama):
    """Forty rows about one subject against subjects of one row each: all are of one kind."""
    rows = {
        "forget": [{"question": f"What is {n}?", "answer": f"so {n}", "subject": "Ann"} for n in range(12)],
        "retain": [{"question": f"Who is {n}?", "answer": f"he {n}", "subject": f"B{n}"} for n in range(12)],
        "holdout": [{"question": f"Where is {n}?", "answer": f"in {n}", "subject": f"C{n}"} for n in range(9)],
    }
    files = {part: write(tmp_path / f"{part}.jsonl", held) for part, held in rows.items()}
    result = finished(tmp_path, llama, files, "method=noop", "metric=mia_loss")
    assert result.metrics["mia_loss/forget"]["n"] == 21


@pytest.mark.parametrize("kl", [0, 0.1])
def test_rome_edits_at_subjects_though_other_rows_name_none(tmp_path, llama, kl):
    files = facts(tmp_path)
    held = [json.loads(line) for line in files["retain"].read_text().splitlines()]
    held = [row | {"subject": None} for row in held[:4]] + held[4:]
    held.append(held[-1] | {"question": "What is said in France?", "answer": "Oui", "subject": FORGET[0]})
    files["retain"] = write(tmp_path / "some.jsonl", held)
    words = ["edit=given_remap", "method=rome", "method.site=subject", "method.layer=0", f"method.value.kl={kl}"]
    assert finished(tmp_path, llama, files, *words).status == "ok"


def test_rows_that_name_no_subject_are_told(tmp_path, llama):
    files = facts(tmp_path)
    words = ["edit=given_remap", "method=rome", "method.site=subject", "method.layer=0"]
    for part, problem in (("retain", "no retain row names one"), ("forget", "not every row names its subject")):
        rows = [json.loads(line) | {"subject": None} for line in files[part].read_text().splitlines()]
        changed = files | {part: write(tmp_path / f"no_{part}.jsonl", rows)}
        result = finished(tmp_path, llama, changed, *words)
        assert result.status == "failed" and problem in result.error["message"]


def test_a_mixture_of_experts_is_told_before_anything_runs(tmp_path):
    held = len(tokenizer(tmp_path / "moe", begins=False, chat=False))
    shape = {"hidden_size": 32, "moe_intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Qwen3MoeConfig(vocab_size=held, num_key_value_heads=1, num_experts=2, num_experts_per_tok=1, **shape)
    Qwen3MoeForCausalLM(config).save_pretrained(tmp_path / "moe")
    files = facts(tmp_path)
    given = [f"world.{part}={path}" for part, path in files.items()]
    with pytest.raises(ConfigError, match=r"Qwen3MoeDecoderLayer has none .*mixture of experts"):
        composed(tmp_path, "world=qa", "edit=given_remap", *given, f"model.path={tmp_path}/moe", "method=memit").check()


def test_fact_numbers_are_told_in_words(tmp_path, llama):
    files = facts(tmp_path)
    result = finished(tmp_path, llama, files, "method=noop", "edit=given_remap")
    told = [json.loads(line) for line in (result.run_dir / "facts.jsonl").read_text().splitlines()]
    assert [row["fact"] for row in told] == list(range(12))
    assert [row["requested"] for row in told[:4]] == [True, True, True, False]
    assert (told[1]["answer"], told[1]["target"], told[1]["subject"]) == ("Lima", "Nairobi", "Peru")
    assert told[1]["prompts"] == ["What is the capital of Peru?", "Peru's capital?"]
    assert told[1]["row"] == f"{files['forget']}, line 2" and told[3]["target"] is None


def test_special_tokens_in_a_text_are_told(tmp_path, llama):
    rows = [{"question": f"What is {n}?", "answer": f"so {n}{'</s>' * (n > 1)}"} for n in range(4)]
    result = finished(tmp_path, llama, {"forget": write(tmp_path / "forget.jsonl", rows)}, "method=noop")
    told = f"'</s>' in {tmp_path}/forget.jsonl, line 3 is read as the special token that it is (2 such rows)"
    assert told in result.notes


def test_probes_know_how_long_their_answers_are():
    """In words of a made tokenizer, also where each request has a model of its own."""
    items = [
        Item("forget", "a of Ann?", "one two three", subject="Ann", wrong=["one"]),
        Item("forget", "a of Bob?", "one two", subject="Bob", wrong=["one"]),
    ]
    made = build(items, Reading(None, "bare", "none", 2), 1, 0)
    given = made, EditRequest("forget", np.array([0, 1])), np.zeros(0, dtype=np.int64), ProbeSizes(4, 1)
    for probes in (build_probes(*given), probes_of_each(*given)):
        split = probes.splits["forget"]
        whole = np.array([6.0] * len(split.rows))
        asked = probes.fact[split.rows].tolist()
        assert probes.per_token(whole, split.rows, split.answer).tolist() == [{0: 2.0, 1: 3.0}[fact] for fact in asked]
        refusal = np.full(len(split.rows), REFUSAL)
        assert probes.per_token(whole, split.rows, refusal).tolist() == whole.tolist()
