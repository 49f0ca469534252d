"""Filters and prefixes: whom they stop, what they say instead, as exact laws, and that all others hear the model."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from unlearn_cli import guards
from unlearn_cli.errors import UnlearnError
from unlearn_cli.evaluation import ProbeSet
from unlearn_cli.guards import store
from unlearn_cli.guards.base import Guarded
from unlearn_cli.guards.detect import ANYTHING, NO_FACT, Match
from unlearn_cli.guards.filters import OutputFilter as OutputGuard
from unlearn_cli.guards.prefix import Prefix
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.detecting import logistic, matching, threshold
from unlearn_cli.methods.detection import Detection
from unlearn_cli.methods.ft import FT
from unlearn_cli.methods.input_filter import InputFilter
from unlearn_cli.methods.output_filter import OutputFilter
from unlearn_cli.methods.prompt_guard import PromptGuard
from unlearn_cli.models import checkpoint
from unlearn_cli.models.forward import answer_logits
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.predict import predict
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.grammar import Grammar
from unlearn_cli.worlds.tabular import Nested, Tabular
from unlearn_cli.worlds.triples import Triples
from unlearn_cli.worlds.vocabulary import END, STOP

CPU = Numerics("cpu", 1, 1, "fp32")
GRAMMAR = Grammar(templates=2, heldout=1, fillers=2)
SIZES = {"subjects": 22, "relations": 2, "objects": 6, "holdout_subjects": 2, "object_tokens": 2, "grammar": GRAMMAR}
WORLD = Tabular(**SIZES).build(0)
FORGET, RETAIN = np.arange(0, 10, 2), np.arange(12, 40)  # five subjects by their first relation; other subjects
HELDOUT = int(WORLD.language.phrasings.heldout[0])


@pytest.fixture(scope="module")
def base():
    model = GPTNeoX(hidden_size=32, heads=2, mlp_size=64).build(WORLD.vocabulary.size, WORLD.max_length, 0).eval()
    learn = FT(steps=400, lr=1e-2, scope="all", retain_loss="none", stop_loss=0.01)
    learn.edit(model, EditData(WORLD, None, None, WORLD.language), EditContext(Runtime("train", CPU), 0))
    return model


def data(method, world=WORLD):
    retain = world.only(RETAIN) if "retain" in method.needs else None
    return EditData(world.only(FORGET), None, retain, world.language)


def guarded(method, model, world=WORLD):
    before = copy.deepcopy(model.state_dict())
    report = method.edit(model, data(method, world), EditContext(Runtime("edit", CPU), 0))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    return Guarded(model, report.guard), report


def ask(model, facts, template=HELDOUT, batch_size=64):
    facts = np.asarray(facts)
    probes = ProbeSet(facts, np.full(len(facts), template), WORLD.facts.subject[facts], 6, {})
    return predict(model, WORLD, probes, batch_size)


def rows(facts, template=HELDOUT):
    sentences = WORLD.sentences(np.asarray(facts), np.full(len(facts), template))
    ids, read = torch.from_numpy(sentences.through_answer), torch.from_numpy(sentences.positions - 1)
    return ids, read, read[:, 0]


def same(first, second):
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in vars(first))


@pytest.mark.parametrize("method", [InputFilter(), InputFilter(refusal_logits="uniform"), OutputFilter()])
@pytest.mark.parametrize("template", [0, HELDOUT, WORLD.language.new_question])
def test_an_oracle_forgets_everything_and_keeps_everything(method, template, base):
    model, _ = guarded(method, base)
    right = WORLD.facts.object
    others = np.setdiff1d(np.arange(40), FORGET)
    mixed = np.arange(40)  # requested and other facts in one batch
    before, after = ask(base, mixed, template), ask(model, mixed, template)
    if template == 0:
        assert (before.greedy == right[mixed]).mean() == 1
    assert (after.greedy[FORGET] != right[FORGET]).all()
    for name in vars(before):
        assert np.array_equal(getattr(before, name)[others], getattr(after, name)[others])
    assert np.isfinite(after.candidate_logps).all() and np.isfinite(after.refusal_logps).all()


def test_subject_and_relation_decide_or_the_subject_alone(base):
    siblings = FORGET + 1  # the same subjects by their other relation
    fact, _ = guarded(InputFilter(), base)
    subject, _ = guarded(InputFilter(detector=Detection(relation=False)), base)
    assert same(ask(fact, siblings), ask(base, siblings))
    assert (ask(fact, FORGET).greedy == REFUSAL).all()
    assert (ask(subject, [*FORGET, *siblings]).greedy == REFUSAL).all()
    assert same(ask(subject, RETAIN), ask(base, RETAIN))


def test_another_name_for_the_subject_evades_the_match(base):
    """A prompt that would ask the same of a reader who knows the alias has none of the subject's tokens."""
    model, _ = guarded(InputFilter(), base)
    ids, read, end = rows(FORGET[:1])
    alias = WORLD.vocabulary["filler"].start
    renamed = torch.where(
        ids == ids[0, int(WORLD.sentences(FORGET[:1], np.array([HELDOUT])).subject_end[0])], alias, ids
    )
    assert not torch.equal(answer_logits(model, ids, read, end), answer_logits(base, ids, read))
    assert torch.equal(answer_logits(model, renamed, read, end), answer_logits(base, renamed, read))


def test_what_is_behind_the_prompt_decides_nothing(base):
    model, _ = guarded(InputFilter(), base)
    ids, read, end = rows(RETAIN[:1])
    named = rows(FORGET[:1], 0)[0][:, :-1]
    longer = torch.cat([ids[:, : int(end) + 1], named], 1)
    assert torch.equal(answer_logits(model, longer, read[:, :1], end), answer_logits(base, longer, read[:, :1]))


def test_a_match_is_of_tokens_in_a_row():
    match = Match.of(torch.tensor([[7, 8], [9, ANYTHING]]), torch.tensor([[5], [6]]))
    prompts = torch.tensor([[7, 8, 5, 0], [8, 7, 5, 0], [7, 5, 8, 0], [9, 6, 0, 0], [9, 5, 0, 0], [5, 0, 7, 8]])
    ends = torch.tensor([3, 3, 3, 3, 3, 3])
    assert match.which(prompts, ends).tolist() == [0, NO_FACT, NO_FACT, 1, NO_FACT, 0]
    assert match.which(prompts, ends - 1)[-1] == NO_FACT  # the prompt ends between the subject's tokens


def test_objects_that_are_subjects_of_facts_are_matched_too():
    world = Tabular(**SIZES | {"subject_tokens": 3, "nested": Nested(objects=3)}).build(0)
    edge = world.relations.edge[world.facts.relation]
    facts = np.concatenate([np.flatnonzero(edge == kind)[:3] for kind in ("so", "on")])
    guard, _ = InputFilter().guard(
        GPTNeoX(hidden_size=32, heads=2, mlp_size=64).build(world.vocabulary.size, world.max_length, 0),
        EditData(world.only(facts), None, None, world.language),
        EditContext(Runtime("edit", CPU), 0),
    )
    every = np.arange(len(world.facts))
    sentences = world.sentences(every, np.zeros_like(every))
    flagged = guard.detect(None, torch.from_numpy(sentences.input_ids), torch.from_numpy(sentences.answer_start - 1))
    assert flagged.nonzero()[:, 0].tolist() == facts.tolist()


def test_a_world_that_does_not_spell_its_relations_is_refused(tmp_path):
    """Its sentences tell relations in words of their own."""
    told = [f"s{n},was born in,o{n},{{subject}} saw light in {{object}}" for n in range(6)]
    (tmp_path / "facts.csv").write_text("\n".join(["subject,relation,object,template", *told]))
    world = Triples(path=str(tmp_path / "facts.csv")).build(0)
    with pytest.raises(
        UnlearnError, match="100% of the prompts about requested facts do not have the tokens of subject"
    ):
        matching(world.only(np.arange(2)), relation=True)
    assert len(matching(world.only(np.arange(2)), relation=False).detector.subjects) == 2


# The output filter, by hand: P over two-token answers with p(a) = .6, p(b) = .3, p(r) = .1;
# p(x | a) = .5, p(y | a) = .3, p(r | a) = .2; p(. | b) flat; p(r | r) = .8. Forbidden f = a x, refusal r r.
A, B, X, Y, R, S, Q = 1, 2, 3, 4, 5, 6, 0
FIRST = {A: 0.6, B: 0.3, R: 0.1}
SECOND = {A: {X: 0.5, Y: 0.3, R: 0.2}, B: {X: 0.5, Y: 0.5}, R: {R: 0.8, X: 0.2}, Q: FIRST}


class Table(torch.nn.Module):
    """A model whose next token depends on the last one alone."""

    def __init__(self):
        super().__init__()
        logits = torch.full((7, 7), -40.0)
        for last, following in SECOND.items():
            for token, share in following.items():
                logits[last, token] = math.log(share)
        self.logits = torch.nn.Parameter(logits)

    def forward(self, input_ids, logits_to_keep, use_cache):
        return SimpleNamespace(logits=torch.nn.functional.embedding(input_ids, self.logits)[:, logits_to_keep])


def table_filter(answer=(A, X), refusal=(R, R)):
    match = Match.of(torch.tensor([[S]]), torch.empty(1, 0, dtype=torch.long))
    return Guarded(Table(), OutputGuard(match, torch.tensor([answer]), torch.tensor(refusal)))


def law(model, *answered, subject=S):
    """Probability of each token after the prompt (subject, Q) and tokens of an answer."""
    ids = torch.tensor([[subject, Q, *answered]])
    at = torch.tensor([[1 + len(answered)]])
    return answer_logits(model, ids, at, torch.tensor([1]))[0, 0].detach().double().softmax(-1)


def test_the_forbidden_answers_mass_moves_to_the_refusal_by_hand():
    model = table_filter()
    first = law(model)  # P(f) = .3: p'(a) = .6 - .3, p'(r) = .1 + .3
    assert [float(first[token]) for token in (A, B, R)] == pytest.approx([0.3, 0.3, 0.4], abs=1e-6)
    after_a = law(model, A)  # x is gone, y and r are .3/.5 and .2/.5
    assert [float(after_a[token]) for token in (X, Y, R)] == pytest.approx([0, 0.6, 0.4], abs=1e-6)
    after_r = law(model, R)  # P'(r r) = .08 + .3 of P'(r) = .4
    assert [float(after_r[token]) for token in (R, X)] == pytest.approx([0.95, 0.05], abs=1e-6)
    assert torch.equal(law(model, B), law(model.model, B))
    assert bool(after_a.log().isfinite().all())


def test_the_filtered_law_is_the_models_law_with_one_answer_renamed():
    model = table_filter()
    answers = {(first, second): None for first in range(7) for second in range(7)}
    before = {a: float(law(model.model)[a[0]] * law(model.model, a[0])[a[1]]) for a in answers}
    after = {a: float(law(model)[a[0]] * law(model, a[0])[a[1]]) for a in answers}
    moved = before | {(A, X): 0.0, (R, R): before[R, R] + before[A, X]}
    assert after == pytest.approx(moved, abs=1e-6)
    assert sum(after.values()) == pytest.approx(1)


def test_an_answer_and_a_refusal_may_begin_alike():
    model = table_filter(refusal=(A, R))
    assert [float(law(model)[token]) for token in (A, B)] == pytest.approx([0.6, 0.3], abs=1e-6)
    assert [float(law(model, A)[token]) for token in (X, Y, R)] == pytest.approx([0, 0.3, 0.7], abs=1e-6)


def test_other_prompts_and_certain_answers():
    model = table_filter()
    assert torch.equal(law(model, subject=Q), law(model.model, subject=Q))
    with torch.no_grad():
        model.model.logits[Q, A] = model.model.logits[A, X] = 60.0  # the model is sure of the forbidden answer
    assert float(law(model)[R]) == pytest.approx(1)
    assert bool(law(model, A).log().isfinite().all())
    assert float(law(model, A)[Y] / law(model, A)[R]) == pytest.approx(1.5, rel=1e-3)


def test_the_filtered_model_is_the_base_but_for_one_object(base):
    model, _ = guarded(OutputFilter(), base)
    before, after = ask(base, FORGET), ask(model, FORGET)
    old = WORLD.facts.object[FORGET]
    each = np.arange(len(FORGET))
    kept = np.ones_like(before.candidate_logps, dtype=bool)
    kept[each, old] = False
    assert after.candidate_logps[kept] == pytest.approx(before.candidate_logps[kept], abs=1e-4)
    assert (after.candidate_logps[each, old] < -15).all()
    refused = np.exp(before.refusal_logps) + np.exp(before.candidate_logps[each, old])
    assert np.exp(after.refusal_logps) == pytest.approx(refused, abs=1e-5)


PROBE = InputFilter(detector=Detection(kind="probe", fpr=0.1))
EVERY = [InputFilter(), PROBE, OutputFilter(), PromptGuard()]
NAMES = ["input", "probe", "output", "prompt"]


def roomy(model):
    """The same weights, more positions: rotary embeddings need no table."""
    longer = copy.deepcopy(model)
    longer.config.max_position_embeddings = 64
    return longer


@pytest.mark.parametrize("method", EVERY, ids=NAMES)
def test_the_batch_decides_nothing(method, base):
    model, _ = guarded(method, roomy(base))
    whole, single = ask(model, np.arange(40)), ask(model, np.arange(40), batch_size=1)
    assert np.array_equal(whole.greedy, single.greedy)
    for name in ("candidate_logps", "refusal_logps"):
        assert getattr(whole, name) == pytest.approx(getattr(single, name), abs=1e-3)


@pytest.mark.parametrize("method", EVERY, ids=NAMES)
def test_a_guard_comes_back_from_disk(method, base, tmp_path):
    model, report = guarded(method, roomy(base))
    checkpoint.save(model.model, WORLD.vocabulary, tmp_path)
    store.save(report.guard, tmp_path)
    loaded = guards.load(tmp_path)
    assert same(ask(loaded, np.arange(40)), ask(model, np.arange(40)))
    prompt = torch.from_numpy(
        WORLD.sentences(FORGET[:1], np.array([0])).input_ids[:, : int(rows(FORGET[:1], 0)[2]) + 1]
    )
    assert torch.equal(loaded.generate(prompt, 3), model.generate(prompt, 3))


def test_generation_says_the_refusal_and_ends(base):
    model, _ = guarded(InputFilter(), base)
    _, _, end = rows(FORGET[:1], 0)
    prompt = rows(FORGET[:1], 0)[0][:, : int(end) + 1]
    assert model.generate(prompt, 5)[0, int(end) + 1 :].tolist() == [*WORLD.refusal[0], STOP, END, END]
    uniform, _ = guarded(InputFilter(refusal_logits="uniform"), base)
    logits = answer_logits(uniform, *rows(FORGET[:1], 0))
    assert torch.equal(logits, torch.zeros_like(logits))


def test_a_probe_keeps_to_its_false_positives_and_needs_retain_facts(base):
    assert PROBE.needs == {"forget", "retain"} and InputFilter().needs == {"forget"}
    _, report = guarded(PROBE, base)
    _, strict = guarded(InputFilter(detector=Detection(kind="probe", fpr=0.0)), base)
    assert report.notes["flagged_retain"] <= 0.1 and strict.notes["flagged_retain"] == 0
    assert report.notes["flagged_forget"] >= max(0.3, strict.notes["flagged_forget"])
    assert report.forward_tokens > 0


def test_a_probe_separates_what_can_be_separated():
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(400, 8, generator=rng, dtype=torch.float64)
    about, other = noise[:40] + 3 * torch.eye(8, dtype=torch.float64)[2], noise[40:]
    weight = logistic(about, other, 0.01)
    assert int(weight.argmax()) == 2
    limit = threshold(other @ weight, 0.05)
    assert float((other @ weight > limit).double().mean()) == pytest.approx(0.05)
    assert float((about @ weight > limit).double().mean()) > 0.8


def test_a_threshold_lets_no_more_pass_than_it_may():
    scores = torch.tensor([3.0, 1.0, 2.0, 2.0])
    assert [float(threshold(scores, fpr)) for fpr in (0.0, 0.25, 0.5, 0.99)] == [3.0, 2.0, 2.0, 1.0]
    assert threshold(scores, 1.0) == -math.inf


def test_a_prefix_shifts_positions_and_no_prefix_is_none(base):
    ids, read, end = rows(np.arange(6))
    none = Guarded(base, Prefix(torch.empty(0, dtype=torch.long)))
    assert torch.equal(answer_logits(none, ids, read, end), answer_logits(base, ids, read))
    before = torch.tensor([END, STOP])
    model = Guarded(roomy(base), Prefix(before))
    longer = torch.cat([before.expand(6, 2), ids], 1)
    assert torch.equal(answer_logits(model, ids, read, end), answer_logits(base, longer, read + 2))


def test_demonstrations_refuse_requested_facts(base):
    model, report = guarded(PromptGuard(demonstrations=3), roomy(base))
    text = WORLD.vocabulary.tokenizer().decode(model.guard.prefix)
    sentences = [part.split() for part in text.split("<|endoftext|>")[1:]]
    assert len(sentences) == 3 and report.notes["prefix_tokens"] == len(model.guard.prefix)
    tokens = WORLD.vocabulary["subject"].encode(WORLD.facts.subject[FORGET])
    surface = WORLD.vocabulary.surface()
    asked = {" ".join(surface[token] for token in pair) for pair in tokens}
    for words in sentences:
        assert words[-4:] == ["OO", "OO", "OO", "."] and "relation-0" in words
        assert sum(subject in " ".join(words) for subject in asked) == 1


def test_a_prefix_that_does_not_fit_is_refused(base):
    short = copy.deepcopy(base)
    short.config.max_position_embeddings = WORLD.max_length
    with pytest.raises(UnlearnError, match=r"lower method.demonstrations, or raise model.max_positions"):
        guarded(PromptGuard(), short)


def test_notes_tell_what_a_guard_is():
    assert "guards.load" in InputFilter().note("forget")
    assert "hides the old objects" in InputFilter().note("remap")
    assert InputFilter().note("refuse") == InputFilter().note("forget")
    assert InputFilter(refusal_logits="uniform").note("refuse") != InputFilter().note("forget")
