"""Losses on the forget set without other labels: values by hand, limits, gradients, what the shipped settings do."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.composition import Composer
from unlearn_cli.errors import UnlearnError
from unlearn_cli.experiment import parts
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.ceu import CEU
from unlearn_cli.methods.code_eraser import CodeEraser
from unlearn_cli.methods.continuations import continuations
from unlearn_cli.methods.ga import GA
from unlearn_cli.methods.ihl import IHL
from unlearn_cli.methods.kl_min import KLMin
from unlearn_cli.methods.loss import Adapter, AnswerBatch
from unlearn_cli.methods.max_entropy import MaxEntropy
from unlearn_cli.methods.npo import NPO
from unlearn_cli.methods.opt_out import OptOut
from unlearn_cli.methods.satimp import SatImp
from unlearn_cli.methods.token_npo import TokenNPO
from unlearn_cli.methods.wasserstein import sliced, unit_directions
from unlearn_cli.methods.wga import WGA
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.training.fit import read_answers
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.tabular import Tabular

# Two answers of two tokens; each row is one prediction, and the first of three tokens is the answer's.
PROBABILITIES = torch.tensor([[[0.5, 0.3, 0.2], [0.2, 0.7, 0.1]], [[0.8, 0.1, 0.1], [0.4, 0.4, 0.2]]]).double()
P = [0.5, 0.2, 0.8, 0.4]
BEST_OTHER = [0.3, 0.7, 0.1, 0.4]


def batch(probabilities=PROBABILITIES, reference=None):
    logits = probabilities.log().requires_grad_()
    known = None if reference is None else reference.log()
    return AnswerBatch(logits, torch.zeros(probabilities.shape[:2], dtype=torch.long), known)


def random_batch(tokens=3, seed=0):
    stream = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, tokens, 6, generator=stream, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, 6, (4, tokens), generator=stream)
    reference = torch.randn(4, tokens, 6, generator=stream, dtype=torch.float64).log_softmax(-1)
    return AnswerBatch(logits, labels, reference.gather(-1, labels[..., None])[..., 0])


def gradient(loss, data):
    return torch.autograd.grad(loss, data.logits, retain_graph=True)[0]


def onehot(data):
    return torch.nn.functional.one_hot(data.labels, data.logits.shape[-1])


def same_loss(one, other, data):
    torch.testing.assert_close(one.forget_loss(data), other.forget_loss(data))
    torch.testing.assert_close(gradient(one.forget_loss(data), data), gradient(other.forget_loss(data), data))


def test_kl_min_ascends_and_keeps_retain_facts_by_kl_alone():
    same_loss(KLMin(), GA(retain_loss="none"), random_batch())
    with pytest.raises(ValueError, match="retain_loss = nll: kl_min keeps retain facts by kl"):
        KLMin(retain_loss="nll")


def test_wga_by_hand():
    expected = sum(p**2 * math.log(p) for p in P) / 4
    assert float(WGA(beta=2.0).forget_loss(batch())) == pytest.approx(expected)


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_wga_pulls_each_token_by_its_probability(beta):
    data = random_batch()
    p = data.logps.exp()[..., None]
    expected = p**beta * (onehot(data) - data.all_logps.exp()) / data.labels.numel()
    torch.testing.assert_close(gradient(WGA(beta=beta).forget_loss(data), data), expected)


def test_without_weights_wga_and_satimp_are_ga():
    for method in (WGA(beta=0.0), SatImp(beta1=0.0, beta2=0.0)):
        same_loss(method, GA(retain_loss="none"), random_batch())


def test_satimp_by_hand_and_without_importance_wga():
    expected = sum(p**5 * (1 - p) * math.log(p) for p in P) / 4
    assert float(SatImp(beta1=5.0, beta2=1.0).forget_loss(batch())) == pytest.approx(expected)
    same_loss(SatImp(beta1=3.0, beta2=0.0), WGA(beta=3.0), random_batch())


def test_satimp_pulls_hardest_between_the_extremes_and_not_at_all_on_the_saturated():
    chances = torch.linspace(0.02, 0.98, 49).double()
    data = batch(torch.stack([chances, 1 - chances], -1)[:, None])
    pull = gradient(SatImp(beta1=2.0, beta2=3.0).forget_loss(data), data)[:, 0, 0] / (1 - chances)
    assert float(chances[pull.argmax()]) == pytest.approx(2 / 5)
    certain = AnswerBatch(torch.tensor([[[60.0, 0.0, 0.0]]]).requires_grad_(), torch.zeros(1, 1, dtype=torch.long))
    assert float(gradient(SatImp(beta1=5.0, beta2=1.0).forget_loss(certain), certain).abs().max()) == 0


def test_token_npo_starts_at_two_log_two_over_beta_and_weighs_each_token():
    data, beta = random_batch(), 1.5
    start = AnswerBatch(data.logits, data.labels, data.logps.detach())
    assert float(TokenNPO(beta=beta).forget_loss(start)) == pytest.approx(2 * math.log(2) / beta)
    weights = 2 * torch.sigmoid(beta * (data.logps - data.reference_logps)).detach()
    weighted = (weights * data.logps).mean()
    torch.testing.assert_close(gradient(TokenNPO(beta=beta).forget_loss(data), data), gradient(weighted, data))


def test_token_npo_is_npo_for_answers_of_one_token_only():
    same_loss(TokenNPO(beta=2.0), NPO(beta=2.0), random_batch(tokens=1))
    longer = random_batch(tokens=2)
    assert not torch.isclose(TokenNPO(beta=2.0).forget_loss(longer), NPO(beta=2.0).forget_loss(longer))


def test_ceu_by_hand():
    first = -(0.6 * math.log(0.3) + 0.4 * math.log(0.2))  # without the answer .3 and .2 become .6 and .4
    data = batch(PROBABILITIES[:1, :1])
    assert float(CEU().forget_loss(data)) == pytest.approx(first)


def test_ceu_pulls_the_prediction_to_itself_without_the_answer():
    data = random_batch()
    p = data.all_logps.exp().detach()
    q = p * (1 - onehot(data))
    q = q / q.sum(-1, keepdim=True)
    torch.testing.assert_close(gradient(CEU().forget_loss(data), data), (p - q) / data.labels.numel())
    gone = AnswerBatch(data.logits.detach() - 60 * onehot(data), data.labels)
    gone.logits.requires_grad_()
    assert float(gradient(CEU().forget_loss(gone), gone).abs().max()) < 1e-12


def test_ceu_leaves_first_tokens_alone_and_says_when_none_is_left():
    data = random_batch(tokens=2)
    found = gradient(CEU(skip_first=1).forget_loss(data), data)
    assert float(found[:, 0].abs().max()) == 0 and float(found[:, 1].abs().max()) > 0
    with pytest.raises(UnlearnError, match=r"method.skip_first = 2: leaves none of the answers' 2 tokens"):
        CEU(skip_first=2).forget_loss(data)


def test_max_entropy_by_hand_in_its_three_forms():
    data = batch(PROBABILITIES[:1, :1])
    negative = sum(p * math.log(p) for p in (0.5, 0.3, 0.2))
    reverse = -math.log(3) - sum(map(math.log, (0.5, 0.3, 0.2))) / 3
    expected = {"neg_entropy": negative, "kl_p_uniform": negative + math.log(3), "kl_uniform_p": reverse}
    assert {form: float(MaxEntropy(form=form).forget_loss(data)) for form in expected} == pytest.approx(expected)


@pytest.mark.parametrize(("form", "least"), [("neg_entropy", -math.log(6)), ("kl_p_uniform", 0), ("kl_uniform_p", 0)])
def test_max_entropy_is_least_where_predictions_are_uniform(form, least):
    flat = AnswerBatch(torch.full((2, 3, 6), 0.7).double().requires_grad_(), torch.zeros(2, 3, dtype=torch.long))
    loss = MaxEntropy(form=form).forget_loss(flat)
    assert float(loss) == pytest.approx(least) and float(gradient(loss, flat).abs().max()) < 1e-12
    assert float(MaxEntropy(form=form).forget_loss(random_batch())) > least + 0.01


def over_objects(probabilities, counts):
    """A batch of one prediction, whose tokens are the next of so many objects."""
    data = batch(torch.tensor([[probabilities]], dtype=torch.float64))
    return replace(data, continuations=torch.tensor([[counts]]))


def test_max_entropy_over_objects_by_hand_in_its_three_forms():
    data = over_objects([0.4, 0.2, 0.3, 0.1], [2, 1, 0, 1])  # renormalised: 4/7, 2/7, 1/7; half of 4/7 for each of two
    masses = [2 / 7, 2 / 7, 2 / 7, 1 / 7]
    negative = sum(p * math.log(p) for p in masses)
    reverse = -math.log(4) - sum(map(math.log, masses)) / 4
    expected = {"neg_entropy": negative, "kl_p_uniform": negative + math.log(4), "kl_uniform_p": reverse}
    found = {form: float(MaxEntropy(form=form, over="objects").forget_loss(data)) for form in expected}
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(("form", "least"), [("neg_entropy", -math.log(4)), ("kl_p_uniform", 0), ("kl_uniform_p", 0)])
def test_max_entropy_over_objects_is_least_where_each_has_as_much(form, least):
    method = MaxEntropy(form=form, over="objects")
    flat = over_objects([0.4, 0.2, 0.2, 0.2], [2, 1, 0, 1])
    loss = method.forget_loss(flat)
    assert float(loss) == pytest.approx(least) and float(gradient(loss, flat).abs().max()) < 1e-12
    other = over_objects([0.4, 0.3, 0.2, 0.1], [2, 1, 0, 1])
    slope = gradient(method.forget_loss(other), other)[0, 0]
    assert slope[1] > 0.01 > -0.01 > slope[3] and abs(slope[2]) < 1e-12  # what is no object is left alone


@pytest.mark.parametrize("form", ["neg_entropy", "kl_p_uniform", "kl_uniform_p"])
def test_max_entropy_over_objects_that_are_all_tokens_is_that_over_the_vocabulary(form):
    data = random_batch()
    every = replace(data, continuations=torch.ones(4, 3, 6, dtype=torch.long))
    flat, whole = MaxEntropy(form=form, over="objects").forget_loss(every), MaxEntropy(form=form).forget_loss(data)
    assert float(flat) == pytest.approx(float(whole))


def test_continuations_count_the_objects_that_begin_as_the_answer_does():
    world = Tabular(subjects=9, relations=2, objects=9, object_tokens=2, holdout_subjects=1).build(0)
    relations, size = np.array([0, 1, 0]), world.vocabulary.size
    answers = np.stack(
        [world.candidates(relation)[place] for relation, place in zip(relations, (0, 4, 8), strict=True)]
    )
    found = continuations(world, relations, answers, size)
    for row, relation in enumerate(relations):
        objects = world.candidates(relation)
        begun = objects[objects[:, 0] == answers[row, 0]]
        assert found[row, 0].tolist() == np.bincount(objects[:, 0], minlength=size).tolist()
        assert found[row, 1].tolist() == np.bincount(begun[:, 1], minlength=size).tolist()
    assert (found[:, 0].sum(-1) == 9).all() and (found[:, 1].sum(-1) < 9).all()


def test_ihl_by_hand_and_one_where_the_answer_ties():
    expected = sum(1 + p - other for p, other in zip(P, BEST_OTHER, strict=True)) / 4
    assert float(IHL().forget_loss(batch())) == pytest.approx(expected)
    assert float(IHL().forget_loss(batch(PROBABILITIES[1:, 1:]))) == pytest.approx(1)


def test_ihl_moves_mass_from_the_answer_mainly_to_the_runner_up():
    data = batch(PROBABILITIES[:1, :1])
    down = -gradient(IHL().forget_loss(data), data)[0, 0]
    assert down[0] < 0 < down[1] and down[1] > down[2].abs()
    assert torch.autograd.gradcheck(lambda z: IHL().forget_loss(AnswerBatch(z, data.labels)), data.logits)


def test_code_eraser_by_hand():
    data, reference = batch(), PROBABILITIES.flip(1)
    around = torch.tensor([0.5, 0.25]).log()
    kl = (reference * (reference / PROBABILITIES).log()).sum(-1).mean()
    full = AnswerBatch(data.logits, data.labels, reference_logits=reference.log(), context_logps=around)
    ascent = sum(map(math.log, P)) / 4
    expected = ascent - 0.3 * (math.log(0.5) + math.log(0.25)) / 2 - 0.2 * float(kl)
    assert float(CodeEraser(gamma=0.3, lambda_kl=0.2).forget_loss(full)) == pytest.approx(expected, rel=1e-5)
    bare = AnswerBatch(data.logits, data.labels, reference_logits=reference.log(), context_logps=around[:0])
    assert float(CodeEraser(gamma=0.3, lambda_kl=0.0).forget_loss(bare)) == pytest.approx(ascent)  # no 0 / 0


def test_sliced_wasserstein_sees_moves_but_no_permutation():
    stream = torch.Generator().manual_seed(0)
    a = torch.randn(7, 5, generator=stream).requires_grad_()
    directions = unit_directions(5, 50, stream)
    same = sliced(a, a.detach(), directions)
    assert float(same) == 0 and float(torch.autograd.grad(same, a)[0].abs().max()) == 0
    assert float(sliced(a, a.detach()[torch.randperm(7, generator=stream)], directions)) == pytest.approx(0, abs=1e-9)
    assert float(sliced(a, a.detach() + 1, directions)) > 0.1


def test_sliced_wasserstein_of_one_row_is_the_squared_distance_over_the_size():
    stream = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 1, 8, generator=stream)
    found = float(sliced(a, b, unit_directions(8, 200_000, stream)))
    assert found == pytest.approx(float((a - b).square().sum()) / 8, rel=0.01)


def test_opt_out_draws_its_directions_from_the_seed_and_the_step():
    def distance(seed, *steps):
        model = torch.nn.Linear(5, 4)
        with torch.no_grad():
            model.weight.fill_(0.5)
            penalty = OptOut(projections=2).penalty(model, seed)
            model.weight += torch.arange(20.0).view(4, 5)
            return [float(penalty(step)) for step in steps]

    assert distance(0, 0, 1)[1:] == distance(0, 1)  # whatever was asked before
    assert len({*distance(0, 0, 1), *distance(1, 0, 1)}) == 4


def test_opt_out_reads_the_weights_themselves():
    with pytest.raises(ValueError, match=r"adapter.rank = 2: opt_out's penalty reads trained weights, so 0"):
        OptOut(adapter=Adapter(rank=2))


# Runs on a small model that knows its facts.
WORLD = Tabular(subjects=40, relations=2, objects=6, holdout_subjects=2).build(0)
FORGET, RETAIN = np.arange(0, 20, 2), np.arange(20, 76)
CPU = Numerics("cpu", 1, 1, "fp32")
METHODS = ["kl_min", "wga", "token_npo", "satimp", "ceu", "max_entropy", "ihl", "opt_out", "code_eraser"]


@pytest.fixture(scope="module")
def base():
    model = GPTNeoX(hidden_size=32, heads=2, mlp_size=64).build(WORLD.vocabulary.size, WORLD.max_length, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    facts = np.arange(len(WORLD.facts))
    for step in range(200):
        templates = np.random.default_rng(step).choice(WORLD.language.asked, len(facts))
        logits, labels = read_answers(model, WORLD.sentences(facts, templates), torch.device("cpu"))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        optimizer.step()
    return model.eval()


def belief(model, facts):
    """Mean probability of the facts' objects."""
    templates = np.full(len(facts), WORLD.language.asked[0])
    with torch.no_grad():
        data = AnswerBatch(*read_answers(model, WORLD.sentences(facts, templates), torch.device("cpu")))
    return float(data.logps.exp().mean())


def edit(method, base, seed=0):
    model, runtime = copy.deepcopy(base), Runtime("edit", CPU)
    forget = WORLD.only(FORGET) if "forget" in method.needs else None
    retain = WORLD.only(RETAIN) if "retain" in method.needs else None
    method.edit(model, EditData(forget, None, retain, WORLD.language), EditContext(runtime, seed))
    return model, runtime.curves


def shipped(name):
    config = Composer(parse([], config_dir())).compose([f"method={name}"])
    values = OmegaConf.to_container(config, resolve=False)
    del values["hydra"]
    return parts(OmegaConf.to_container(OmegaConf.create(values), resolve=True))["method"]


def largest_difference(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@pytest.mark.parametrize("name", METHODS)
def test_the_shipped_settings_forget_and_keep(name, base):
    assert belief(base, FORGET) > 0.95 and belief(base, RETAIN) > 0.95
    method = shipped(name)
    model, _ = edit(method, base)
    assert belief(model, FORGET) < 0.6
    assert belief(model, RETAIN) > 0.8
    again, _ = edit(method, base)
    assert largest_difference(model, again) == 0  # same seed, same bits


def test_max_entropy_over_objects_keeps_the_mass_on_them(base):
    def spread(model):
        """Mass on the objects of the facts' relations, and the entropy among them."""
        sentences = WORLD.sentences(FORGET, np.full(len(FORGET), WORLD.language.asked[0]))
        objects = np.stack([WORLD.candidates(relation)[:, 0] for relation in WORLD.facts.relation[FORGET]])
        with torch.no_grad():
            p = read_answers(model, sentences, torch.device("cpu"))[0][:, 0].softmax(-1)
        among = p.gather(-1, torch.from_numpy(objects))
        return float(among.sum(-1).mean()), float(torch.distributions.Categorical(among).entropy().mean())

    known = spread(base)
    (mass, entropy), (elsewhere, _) = (
        spread(edit(MaxEntropy(steps=40, lr=3e-3, over=over), base)[0]) for over in ("objects", "vocabulary")
    )
    assert mass > 0.95 and mass > elsewhere + 0.1
    assert known[1] < 0.2 and entropy > 0.9 * math.log(6)


def test_kl_min_begins_with_the_step_of_ga(base):
    _, curves = edit(KLMin(steps=2), base)
    assert curves[0]["retain"] == pytest.approx(0, abs=1e-6) and curves[1]["retain"] > 0


def test_code_eraser_without_its_extras_is_ga(base):
    bare, _ = edit(CodeEraser(steps=3, gamma=0.0, lambda_kl=0.0, retain_loss="none"), base)
    plain, _ = edit(GA(steps=3, retain_loss="none"), base)
    assert largest_difference(bare, plain) < 1e-5 < largest_difference(bare, base)


def test_code_eraser_keeps_the_words_around_the_objects(base):
    def around(gamma):
        return edit(CodeEraser(steps=40, lr=1e-3, gamma=gamma, lambda_kl=0.0, retain_loss="none"), base)[0]

    def loss(model):
        sentences = WORLD.sentences(FORGET, np.full(len(FORGET), WORLD.language.asked[0]))
        ids = torch.from_numpy(sentences.input_ids)
        with torch.no_grad():
            logps = model(ids).logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        return -float(logps[:, : int(sentences.answer_start[0]) - 1].mean())

    assert loss(around(1.0)) < loss(around(0.0)) - 0.5


def test_opt_out_without_its_penalty_is_npo_and_with_it_stays_nearer(base):
    free, held = edit(OptOut(steps=20, ot_weight=0.0), base)[0], edit(OptOut(steps=20, ot_weight=100.0), base)[0]
    assert largest_difference(free, edit(NPO(steps=20), base)[0]) == 0
    distance = [
        sum(float((a - b).detach().square().sum()) for a, b in zip(m.parameters(), base.parameters(), strict=True))
        for m in (free, held)
    ]
    assert distance[1] < 0.7 * distance[0]
