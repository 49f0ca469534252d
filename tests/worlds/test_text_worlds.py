"""Worlds of the user's own text, from the files to `result.json`, on tiny random checkpoints."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from text_samples import CAPITALS, FORGET, checkpoint, composed, facts, write
from transformers import AutoModelForCausalLM, AutoTokenizer

from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.composition import Composer
from unlearn_cli.errors import ConfigError, UnlearnError
from unlearn_cli.evaluation import OTHER
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.alternatives import other_objects
from unlearn_cli.models.pretrained import tokenizer
from unlearn_cli.pipeline import run
from unlearn_cli.predict import predict
from unlearn_cli.stages import all_stages, base_stage, edit_stage, gold_stage, predict_stage
from unlearn_cli.study import Study
from unlearn_cli.worlds.facts import NONE, REFUSAL
from unlearn_cli.worlds.text.build import Reading, build
from unlearn_cli.worlds.text.items import Item
from unlearn_cli.worlds.text.qa import QA

SHAPES = {
    "neox": {"family": "neox", "tied": False, "begins": False, "chat": False},
    "llama": {"family": "llama", "tied": True, "begins": True, "chat": False},
    "gpt2": {"family": "gpt2", "tied": True, "begins": False, "chat": True},
    "llama untied": {"family": "llama", "tied": False, "begins": True, "chat": True},
}
PLACED = [  # of logits, states, states put in, weights of all blocks, gradients, training
    "fact_accuracy/forget", "logit_lens/forget", "activation_patching/restored_2", "concept_vectors/jaccard",
    "mia_gradnorm/forget", "fisher_drift/importance", "savings/steps",
]  # fmt: skip
EDITED = {  # method -> what stands beside it; rmu needs its layers, the others few steps
    "npo": ["method.steps=2"],
    "idk": ["method.steps=2"],
    "ft": ["edit=given_remap", "method.steps=4", "method.lr=0.01"],
    "rome": ["edit=given_remap"],
    "rmu": ["method.steps=2", "method.layer=1"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("text")


@pytest.fixture(scope="module")
def files(folder):
    return facts(folder)


@pytest.fixture
def full_precision():
    """Products in float32, whatever a run in this process has set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def llama(folder):
    return checkpoint(folder / "llama")


def words(files, model, *more):
    parts = [f"world.{part}={path}" for part, path in files.items()]
    return ["world=qa", *parts, f"model.path={model}", *more]


def finished(folder, *given):
    result = run(composed(folder, *given))
    assert result.status == "ok", result.error
    return result


# A whole run


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_asked_edited_and_saved(folder, files, shape):
    path = checkpoint(folder / f"shape_{shape}", **SHAPES[shape])
    result = finished(folder, *words(files, path, "method=npo", "method.steps=2"))
    assert result.request["facts"] == len(FORGET)
    values = result.metrics
    assert values["fact_accuracy/forget"]["n"] == len(FORGET)
    assert values["fact_accuracy/edited_para"]["n"] == len(FORGET)  # each has one paraphrase
    assert values["fact_accuracy/holdout"]["n"] == 2
    base, edited = (AutoModelForCausalLM.from_pretrained(result.run_dir / name) for name in ("base", "edited"))
    given = AutoModelForCausalLM.from_pretrained(path).state_dict()
    assert all(torch.equal(tensor, given[name]) for name, tensor in base.state_dict().items())
    assert any(not torch.equal(tensor, given[name]) for name, tensor in edited.state_dict().items())
    assert edited.config.tie_word_embeddings == SHAPES[shape]["tied"]


@pytest.mark.parametrize("method", EDITED)
def test_methods_edit_a_pretrained_model(folder, files, llama, method):
    result = finished(folder, *words(files, llama, f"method={method}", *EDITED[method]))
    assert result.metrics["fact_accuracy/forget"]["base"]["n"] == len(FORGET)
    losses = {"npo", "idk", "rmu"}
    assert (result.metrics["fact_accuracy/edited"]["status"] == "ok") or method in losses


@pytest.mark.parametrize("method", ["npo", "rmu", "noop", "retrain"])
def test_blocks_on_several_devices_change_no_number(folder, files, llama, method, monkeypatch):
    """Two parts of one CPU, between which blocks pass their states on."""
    own = {"npo": ["method/adapter=lora"], "retrain": [f"gold.path={llama}"]}.get(method, [])
    metrics = "metric=[fact_accuracy,logit_lens,activation_patching,concept_vectors,mia_gradnorm,fisher_drift,savings]"
    given = words(files, llama, f"method={method}", *EDITED.get(method, []), *own, metrics)
    found = []
    for kind, places in (("none", ["cpu"]), ("auto", ["cpu", "cpu"])):
        monkeypatch.setattr(Numerics, "places", places)
        result = finished(folder / f"{kind}_{method}", *given, f"model.device_map={kind}")
        found.append({name: value.get("value") for name, value in result.metrics.items()})
    assert found[0] == found[1]
    assert all(found[1][name] is not None for name in PLACED)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["method=rome", "edit=given_remap"], "method=rome needs the weights of several blocks on one device: 'none'"),
        (["method=npo", "method/mask=salun"], "method=npo needs mask.kind=salun on one device: 'none'"),
        (["method=opt_out"], "method=opt_out needs its penalty on one device: 'none'"),
        (["method=npo", "trainer.devices=2"], "one process then has all devices: trainer.devices=1"),
    ],
)
def test_what_needs_the_model_on_one_device_is_refused(folder, files, llama, given, problem):
    with pytest.raises(ConfigError) as refused:
        composed(folder, *words(files, llama, *given, "model.device_map=auto")).check()
    assert any(problem in line for line in refused.value.problems), refused.value.problems


def test_an_edit_to_the_files_targets_takes(folder, files, llama):
    given = words(files, llama, "method=ft", "edit=given_remap", "method.steps=60", "method.lr=0.01")
    values = finished(folder, *given, "method.retain_loss=none").metrics
    assert values["fact_accuracy/edited"]["base"]["value"] == 0
    assert values["fact_accuracy/edited"]["value"] == 1  # Nairobi, for all three


def test_the_edited_checkpoint_speaks_alike_through_plain_transformers(folder, files, llama):
    given = words(files, llama, "method=ft", "edit=given_remap", "method.steps=60", "method.lr=0.01")
    result = finished(folder, *given, "method.retain_loss=none")
    read = AutoTokenizer.from_pretrained(result.run_dir / "edited")
    model = AutoModelForCausalLM.from_pretrained(result.run_dir / "edited")
    for country in FORGET:
        prompt = read(f"Question: What is the capital of {country}?\nAnswer:", return_tensors="pt")
        said = model.generate(**prompt, max_new_tokens=12, do_sample=False, pad_token_id=1)
        text = read.decode(said[0, prompt["input_ids"].shape[1] :])
        assert text.startswith(" Nairobi")


def test_an_audit_of_a_checkpoint_finds_its_weights(folder, files, llama):
    other = checkpoint(folder / "other", initializer_range=0.3)
    result = finished(folder, *words(files, llama, "method=checkpoint", f"method.path={other}"))
    ours = AutoModelForCausalLM.from_pretrained(result.run_dir / "edited").state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(other).state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_a_gold_that_is_given_stands_beside_the_edited_model(folder, files, llama):
    gold = checkpoint(folder / "gold", initializer_range=0.3)
    given = words(files, llama, "method=checkpoint", f"method.path={gold}", f"gold.path={gold}")
    result = finished(folder, *given, "metric=distance_to_gold")
    told = [value for value in result.metrics.values() if value["status"] == "ok"]
    assert [value["value"] for value in told] == pytest.approx([0] * len(told), abs=1e-6)
    assert max(value["base"]["value"] for value in told) > 0.001


def test_without_a_gold_its_metrics_are_skipped(folder, files, llama):
    result = finished(folder, *words(files, llama, "method=noop", "metric=distance_to_gold"))
    assert {value["status"] for value in result.metrics.values()} == {"skipped"}


def test_a_fresh_model_learns_the_files_and_its_gold_does_not(folder, files):
    given = [f"world.{part}={path}" for part, path in files.items()]
    fresh = ["model=tiny", "world.tokenizer=null", "train=tiny", "train.min_recall=0.9", "train.max_passes=200"]
    fresh += ["train.decay_passes=200", "world.exposure=200", "gold.n=1", "method=noop"]
    fresh += ["trainer.side_by_side=false"]
    values = finished(folder, "world=qa", *given, *fresh).metrics
    assert values["fact_accuracy/forget"]["base"]["value"] == 1
    assert values["fact_accuracy/forget"]["gold"]["value"] < 0.5
    assert values["fact_accuracy/retain/unseen"]["gold"]["value"] == 1


def test_a_pretrained_model_is_fine_tuned_first_with_a_gold(folder, files, llama):
    train = ["train=finetune", "train.max_passes=150", "train.decay_passes=150", "train.lr=0.01", "world.exposure=150"]
    train += ["train.matrix_lr=0.01", "train.batch_size=10", "trainer.side_by_side=false"]
    given = words(files, llama, *train, "gold.n=1", "method=noop")
    result = finished(folder, *given)
    values = result.metrics
    read = AutoTokenizer.from_pretrained(result.run_dir / "base")
    prompt = read("Question: What is the capital of France?\nAnswer:", return_tensors="pt")
    model = AutoModelForCausalLM.from_pretrained(result.run_dir / "base")
    said = model.generate(**prompt, max_new_tokens=12, do_sample=False, pad_token_id=1)
    assert read.decode(said[0]).endswith("Answer: Paris</s>")  # it has learned where an answer ends
    assert values["fact_accuracy/forget"]["base"]["value"] == 1
    assert values["fact_accuracy/forget"]["gold"]["value"] < 1
    assert values["fact_accuracy/retain/unseen"]["gold"]["value"] == 1


# What is asked


def items(*more):
    return [
        Item("forget", f"The capital of {name} is", city, relation="capital") for name, city in CAPITALS.items()
    ] + [*more]


def read(rows, wrong=4):
    return build(rows, Reading(None, "bare", "no idea", wrong), exposure=10, seed=0)


def test_named_wrong_answers_compete_and_no_others_do():
    rows = items(Item("retain", "Say it", "red", wrong=("blue", "green", "blue", "red"), relation="colour"))
    world = read(rows)
    row = len(rows) - 1
    texts = [world.language.text(int(world.facts.relation[row]), int(o)) for o in world.choices[row] if o != NONE]
    assert texts == ["red", "blue", "green"]  # once each, and the right one no wrong one


def test_drawn_wrong_answers_are_other_answers_of_the_relation():
    rows = [*items(), Item("retain", "Say it", "red", relation="colour")]
    world = read(rows, wrong=3)
    for row, item in enumerate(rows[:-1]):
        texts = [world.language.text(int(world.facts.relation[row]), int(o)) for o in world.choices[row]]
        assert texts[0] == item.answer
        assert len(set(texts[1:])) == 3 and set(texts[1:]) <= set(CAPITALS.values()) - {item.answer}
    assert (world.choices[-1] != NONE).sum() == 1  # no other colour is known


def test_a_target_competes_and_is_drawn_only_once():
    rows = [Item("forget", item.prompt, item.answer, target="Lima", relation="capital") for item in items()[2:]]
    world = read([*rows, Item("retain", "The capital of Peru is", "Lima", relation="capital")])
    for row in range(len(rows)):
        texts = [world.language.text(0, int(o)) for o in world.choices[row]]
        assert texts[1] == "Lima" and texts.count("Lima") == 1 and len(set(texts)) == len(texts) == 6
    assert world.given.facts.tolist() == list(range(len(rows)))
    assert world.given.new_object.tolist() == [world.choices[0, 1]] * len(rows)


def test_alternatives_are_wrong_answers_and_never_the_right_one_in_other_words():
    more = [Item("retain", "Say it", "red", wrong=("blue", "green"), reworded="crimson", relation="colour")]
    world = read([*items(), *more])
    row = np.full(200, len(world.facts) - 1)
    drawn = other_objects(np.random.default_rng(0), world, row)
    texts = [world.language.text(int(world.facts.relation[-1]), int(o)) for o in drawn]
    assert set(texts) == {"blue", "green"} and 60 < texts.count("blue") < 140
    assert world.language.text(int(world.facts.relation[-1]), int(world.reworded[-1])) == "crimson"


def test_a_fact_without_wrong_answers_has_no_alternative():
    world = read([*items(), Item("retain", "Say it", "red", relation="colour")])
    with pytest.raises(UnlearnError, match="a fact has no wrong answer"):
        other_objects(np.random.default_rng(0), world, np.array([len(world.facts) - 1]))


def test_several_facts_of_one_kind_and_subject_have_relations_of_their_own():
    said = [
        ("France", "city", "Paris"),
        ("France", "city", "Lyon"),
        ("Peru", "city", "Lima"),
        ("Peru", "river", "Rímac"),
    ]
    world = read([Item("forget", f"{s} {r} {a}?", a, subject=s, relation=r) for s, r, a in said])
    assert world.facts.subject.tolist() == [0, 0, 1, 1]
    assert world.facts.relation.tolist() == [0, 1, 0, 2]  # the second city is a relation of its own
    assert world.relations.objects.tolist() == [3, 3, 1]  # which has the same objects
    assert [world.language.text(r, o) for r, o in zip(world.facts.relation, world.facts.object, strict=True)] == [
        "Paris", "Lyon", "Lima", "Rímac",
    ]  # fmt: skip


def test_items_without_subject_have_one_of_their_own():
    assert len(set(read(items()).facts.subject.tolist())) == len(CAPITALS)


def test_the_request_is_the_forget_file_all_of_it(folder, files, llama):
    for edit in ("given", "given_remap"):
        method = "npo" if edit == "given" else "ft"
        study = Study.of(composed(folder, *words(files, llama, f"edit={edit}", f"method={method}")))
        asked = [study.world.language.names[fact] for fact in study.request.facts]
        assert asked == list(FORGET)
        table = study.world.facts
        assert table.holdout.sum() == 2 and not np.isin(np.flatnonzero(table.holdout), study.pool).any()
    relation = int(study.world.facts.relation[0])
    assert {study.world.language.text(relation, int(o)) for o in study.request.new_object} == {"Nairobi"}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("full_precision")
def test_a_candidate_scores_what_plain_logits_say(folder, files, shape):
    """Each answer alone, behind its prompt, by `model(input_ids).logits`."""
    path = checkpoint(folder / f"shape_{shape}", **SHAPES[shape])
    study = Study.of(composed(folder, *words(files, path, "method=npo")))
    world, probes = study.world, study.probes
    model = AutoModelForCausalLM.from_pretrained(path)
    tokens = AutoTokenizer.from_pretrained(path)
    told = predict(model, world, probes, batch_size=7)
    for row in range(0, len(probes), 5):
        fact, template = int(probes.fact[row]), int(probes.template[row])
        relation = int(world.facts.relation[fact])
        prompt = world.language.prompts[fact][template]
        if SHAPES[shape]["chat"]:
            turns = [{"role": "user", "content": prompt}]
            head = tokens.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        else:
            head = f"Question: {prompt}\nAnswer:"
        begun = [0] if SHAPES[shape]["begins"] and not SHAPES[shape]["chat"] else []
        scores = {}
        for competing in [*(o for o in world.choices[fact].tolist() if o != NONE), REFUSAL]:
            before = begun + tokens(head, add_special_tokens=False)["input_ids"]
            text = f"{head} {world.language.text(relation, competing)}"
            every = begun + tokens(text, add_special_tokens=False)["input_ids"]
            logps = model(torch.tensor([every])).logits[0].log_softmax(-1)
            scores[competing] = sum(logps[i - 1, every[i]].item() for i in range(len(before), len(every)))
        assert told.refusal_logps[row] == pytest.approx(scores.pop(REFUSAL), rel=1e-5)
        held = told.candidate_logps[row]
        assert {o: held[o] for o in scores} == pytest.approx(scores, rel=1e-5)
        assert np.isinf(np.delete(held, list(scores))).all()
        assert told.greedy[row] == OTHER  # a random model spells none of them


# What decides a digest


def digests(experiment):
    study = Study.of(experiment)
    base, edited = base_stage(study), edit_stage(study)
    return base.digest, edited.digest, predict_stage(study, base).digest


def test_digests_do_not_depend_on_where_files_lie(folder, files, llama, tmp_path):
    moved = {part: Path(shutil.copy(path, tmp_path / f"moved_{part}.jsonl")) for part, path in files.items()}
    model = shutil.copytree(llama, tmp_path / "model")
    one = digests(composed(folder, *words(files, llama, "method=npo")))
    assert one == digests(composed(folder, *words(moved, model, "method=npo")))
    audited = ["method=checkpoint", f"method.path={llama}"]
    elsewhere = ["method=checkpoint", f"method.path={model}"]
    assert digests(composed(folder, *words(files, llama, *audited))) == digests(
        composed(folder, *words(moved, model, *elsewhere))
    )


def test_a_checkpoint_that_is_saved_anew_in_its_folder_is_read_anew(folder, files, tmp_path):
    path = checkpoint(tmp_path / "model")
    before = digests(composed(folder, *words(files, path, "method=npo")))
    checkpoint(path, initializer_range=0.3, chat=True)
    after = digests(composed(folder, *words(files, path, "method=npo")))
    assert before[0] != after[0]
    assert tokenizer(str(path)).chat_template


def test_digests_depend_on_what_files_hold(folder, files, llama, tmp_path):
    base, edited, asked = digests(composed(folder, *words(files, llama, "method=npo")))
    retain = tmp_path / "retain.jsonl"
    retain.write_text(files["retain"].read_text() + '{"question": "Capital of Fiji?", "answer": "Suva"}\n')
    more = digests(composed(folder, *words(files | {"retain": retain}, llama, "method=npo")))
    assert more[0] == base  # the checkpoint is the base, whatever is asked
    assert more[1] != edited or more[2] != asked
    assert more[2] != asked
    heavier = checkpoint(tmp_path / "heavier", initializer_range=0.3)
    assert digests(composed(folder, *words(files, heavier, "method=npo")))[0] != base
    chatty = checkpoint(tmp_path / "chatty", chat=True)
    assert digests(composed(folder, *words(files, chatty, "method=npo")))[2] != asked


def test_an_audited_checkpoint_and_a_given_gold_count_by_their_weights(folder, files, llama, tmp_path):
    path = Path(shutil.copytree(llama, tmp_path / "theirs"))
    given = words(files, llama, "method=checkpoint", f"method.path={path}", f"gold.path={path}")
    before = composed(folder, *given)
    one = edit_stage(Study.of(before)).digest, gold_stage(Study.of(before), 0).digest
    other = checkpoint(tmp_path / "heavier", initializer_range=0.3)
    given = words(files, llama, "method=checkpoint", f"method.path={other}", f"gold.path={other}")
    after = composed(folder, *given)
    two = edit_stage(Study.of(after)).digest, gold_stage(Study.of(after), 0).digest
    assert one[0] != two[0] and one[1] != two[1]


# What is refused


def refused(folder, *given):
    with pytest.raises(ConfigError) as caught:
        composed(folder, *given)
    return caught.value.problems


def test_methods_that_train_on_retain_facts_need_some(folder, files, llama):
    alone = {"forget": files["forget"]}
    (problem,) = refused(folder, *words(alone, llama, "method=npo"))
    assert problem.startswith("world.retain: method=npo needs facts that must stay")
    assert composed(folder, *words(alone, llama, "method=ga"))


def test_a_pool_that_rounds_to_nothing_is_told_apart_from_no_file(folder, files, llama, tmp_path):
    given = {
        "forget": files["forget"],
        "retain": write(tmp_path / "one.jsonl", [{"question": "Who?", "answer": "Ann"}]),
    }
    (problem,) = refused(folder, *words(given, llama, "method=npo"))
    assert problem.startswith(
        "retain.pool: 0.2 given; of the few facts that must stay, method=npo may use none: raise it"
    )
    assert composed(folder, *words(given, llama, "method=npo", "retain.pool=1"))


def broken(kind, folder, llama):
    """A checkpoint folder with one thing wrong."""
    path = Path(shutil.copytree(llama, folder / "broken", dirs_exist_ok=True))
    config, weights = path / "config.json", path / "model.safetensors"
    if kind == "no config":
        config.unlink()
    elif kind == "bin only":
        weights.rename(path / "pytorch_model.bin")
    elif kind == "config is no JSON":
        config.write_text("{no")
    elif kind == "unknown type":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "foo9"}))
    elif kind == "weights cut off":
        weights.write_bytes(weights.read_bytes()[:-40])
    else:
        named = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
        (path / "model.safetensors.index.json").write_text(json.dumps(named))
    return path


@pytest.mark.parametrize(
    "kind, said",
    [
        ("no config", " has no config.json"),
        ("bin only", "(only .bin, which"),
        ("config is no JSON", " cannot be loaded: "),
        ("unknown type", "model type `foo9`"),
        ("weights cut off", "/model.safetensors cannot be read: "),
        ("a file missing", " names model-00002-of-00002.safetensors, which is not there"),
    ],
)
@pytest.mark.parametrize("field", ["model.path", "method.path", "gold.path"])
def test_a_folder_that_is_no_checkpoint_is_refused(folder, files, llama, tmp_path, kind, said, field):
    path = broken(kind, tmp_path, llama)
    model = path if field == "model.path" else llama
    more = {
        "model.path": ["method=noop", f"world.tokenizer={llama}"],
        "gold.path": ["method=noop", f"gold.path={path}"],
    }
    given = more.get(field, ["method=checkpoint", f"method.path={path}"])
    (problem,) = refused(folder, *words(files, model, *given))
    assert problem.startswith(f"{field}: {path}") and said in problem and "\n" not in problem


@pytest.mark.parametrize("broken_file", ["none", "{}", "no JSON"])
def test_a_folder_without_a_tokenizer_is_told_what_to_name(folder, files, llama, tmp_path, broken_file):
    path = Path(shutil.copytree(llama, tmp_path / "model"))
    for file in path.glob("tokenizer*"):
        file.unlink()
    if broken_file != "none":
        (path / "tokenizer.json").write_text(broken_file)
    (problem,) = refused(folder, *words(files, path, "method=noop"))
    assert problem.startswith(f"world.tokenizer: {path} holds no tokenizer (") and "\n" not in problem
    assert problem.endswith("name a folder that does with world.tokenizer=<folder>")


def test_a_retain_file_that_is_the_forget_file_leaves_nothing(folder, files, llama):
    given = {"forget": files["forget"], "retain": files["forget"]}
    (problem,) = refused(folder, *words(given, llama, "method=npo"))
    assert problem == f"world.retain: {files['forget']}: every row is also in world.forget; nothing is left"


def test_a_path_that_is_nothing_is_refused(folder, files):
    problems = refused(folder, *words(files, "/nowhere/model", "method=noop"))
    assert all("\n" not in problem for problem in problems)
    assert problems[0].startswith("model.path: '/nowhere/model' given; there is no such folder")


@pytest.mark.parametrize("field", ["method.path", "gold.path"])
def test_a_model_of_another_architecture_is_refused_by_its_header(folder, files, llama, field):
    method = "method=checkpoint" if field == "method.path" else "method=noop"
    for other, said in (
        (checkpoint(folder / "gpt2_other", "gpt2"), "model_type gpt2 there and llama in the base"),
        (checkpoint(folder / "wide", intermediate_size=80), "mlp.gate_proj.weight is (80, 32) there and (64, 32) in"),
    ):
        (problem,) = refused(folder, *words(files, llama, method, f"{field}={other}"))
        assert problem.startswith(f"{field}: {other} is no edit of the base: ") and said in problem
    other = checkpoint(folder / "cut")
    (other / "model.safetensors").write_bytes(b"no tensors at all, only text")
    (problem,) = refused(folder, *words(files, llama, method, f"{field}={other}"))
    assert problem.startswith(f"{field}: {other}/model.safetensors cannot be read: ")


def test_an_edit_with_fewer_layers_is_refused(folder, files, llama):
    other = checkpoint(folder / "shallow", num_hidden_layers=1)
    (problem,) = refused(folder, *words(files, llama, "method=checkpoint", f"method.path={other}"))
    assert problem.startswith(f"method.path: {other} is no edit of the base: model.layers.1.")
    assert " is missing there and (" in problem


def test_folds_one_after_another(folder, llama):
    """MUSE's sustainability as docs/own-text.md has it: the second fold begins where the first one ended."""
    first, second = (
        write(folder / f"fold_{n}.jsonl", [{"text": " ".join(f"{word}{n}" for word in "abcdefgh" * 3)}]) for n in (1, 2)
    )
    size = ["world.prefix=6", "world.continuation=6"]
    common = [*size, "method.retain_loss=none", "method.steps=2", "method=npo"]
    one = finished(folder, "world=text", f"world.forget={first}", f"model.path={llama}", *common)
    two = finished(folder, "world=text", f"world.forget={second}", f"model.path={one.run_dir}/edited", *common)
    audit = finished(
        folder, "world=text", *size, f"world.forget={first}", f"model.path={llama}", "method=checkpoint",
        f"method.path={two.run_dir}/edited",
    )  # fmt: skip
    for ours, theirs in (
        (two.run_dir / "base", one.run_dir / "edited"),
        (audit.run_dir / "base", llama),
        (audit.run_dir / "edited", two.run_dir / "edited"),
    ):
        weights, others = (AutoModelForCausalLM.from_pretrained(place).state_dict() for place in (ours, theirs))
        assert all(torch.equal(tensor, others[name]) for name, tensor in weights.items())


def test_texts_that_are_too_long_are_named_by_row(folder, llama, tmp_path):
    files = facts(tmp_path)
    long = {"question": " ".join(["Why"] * 300), "answer": "so"}
    files["retain"] = write(tmp_path / "more.jsonl", [json.loads(line) for line in files["retain"].open()] + [long])
    (problem,) = refused(folder, *words(files, llama, "method=noop"))
    assert problem.startswith(f"{files['retain']}, line 8: ")
    assert problem.endswith(f"; model.path={llama} reads 128")


def test_a_tokenizer_with_more_tokens_than_the_model_embeds_is_refused(folder, files, llama):
    small = checkpoint(folder / "small", vocab_size=40)
    (problem,) = refused(folder, *words(files, small, "method=noop"))
    size = len(AutoTokenizer.from_pretrained(llama))
    assert problem == f"model.path: {small} embeds 40 tokens; the tokenizer has {size}"


def test_a_world_from_python_reads_the_same(files):
    world = QA(forget=str(files["forget"]), retain=str(files["retain"])).build(0)
    assert [world.language.text(0, int(o)) for o in world.facts.object[:3]] == ["Paris", "Lima", "N'Djamena"]


WHOLE = {"ft_l", "l1_sparse", "opt_out", "prune"}  # whose terms are on the weights themselves
SHORT_ROUND = ["method.rounds=1", "method.min_steps=1", "method.max_steps=1"]
MERGED = {"negmerge"}  # of several adapters, entry by entry: no longer of low rank


def losses():
    """Every method of conf/ that is a loss on the model's own weights."""
    composer = Composer(parse([], config_dir()))
    fields = {name: composer.compose([f"method={name}"]).method for name in composer.options("method")}
    return [name for name, own in fields.items() if "adapter" in own and "scope" in own]


@pytest.mark.parametrize("method", losses())
def test_every_loss_method_trains_an_adapter_of_the_scope_and_nothing_else(folder, files, llama, method):
    own = {"ft": ["edit=given_remap"], "ft_l": ["edit=given_remap"], "scrub": SHORT_ROUND}.get(method, [])
    given = words(files, llama, f"method={method}", *own, "method.steps=2", "method.lr=0.01", "metric=cost")
    given += ["method.adapter.rank=2", "method.scope=mlp"]
    if method in WHOLE:
        with pytest.raises(ConfigError, match=r"adapter.rank = 2: .*, so 0"):
            composed(folder, *given)
        return
    result = finished(folder, *given)
    base, edited = (AutoModelForCausalLM.from_pretrained(result.run_dir / name) for name in ("base", "edited"))
    changes = {name: edited.state_dict()[name] - tensor for name, tensor in base.state_dict().items()}
    moved = {name: change.double() for name, change in changes.items() if change.any()}
    assert moved and all(".mlp." in name and change.ndim == 2 for name, change in moved.items())
    assert method in MERGED or max(torch.linalg.matrix_rank(moved[name], rtol=1e-4) for name in moved) <= 2


@pytest.mark.parametrize("file", ["forget", "retain"])
@pytest.mark.parametrize("method", ["npo", "rome", "mend"])
def test_runs_on_other_rows_share_the_checkpoint_alone(folder, files, llama, tmp_path, method, file):
    """Nothing but their files tells what rows say: requests name them by number, and the base has seen none."""
    other = files[file].read_text().replace("Paris" if file == "forget" else "Japan", "Lyon")
    assert other != files[file].read_text()
    (tmp_path / "other.jsonl").write_text(other)
    edit = [] if method == "npo" else ["edit=given_remap"]
    given = [
        words(found, llama, f"method={method}", "metric=all", *edit)
        for found in (files, files | {file: tmp_path / "other.jsonl"})
    ]
    one, two = (Study.of(composed(folder, *each)) for each in given)
    shared = {stage.digest for stage in all_stages(one)} & {stage.digest for stage in all_stages(two)}
    assert shared == {base_stage(one).digest}
