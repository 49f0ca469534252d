"""Losses on answers of different lengths: those of the answers apart, and whatever stands behind an end is not seen."""

from dataclasses import fields, replace
from pydoc import locate

import pytest
import torch
from omegaconf import OmegaConf

from unlearn_cli.cli import config_dir
from unlearn_cli.methods.bad_teacher import BadTeacher
from unlearn_cli.methods.ceu import CEU
from unlearn_cli.methods.loss import AnswerBatch, LossMethod
from unlearn_cli.methods.max_entropy import MaxEntropy
from unlearn_cli.methods.random_label import RandomLabel
from unlearn_cli.methods.whp import WHP
from unlearn_cli.yaml_docs import groups

LENGTHS = torch.tensor([3, 1, 2, 3, 2])
MASK = torch.arange(3) < LENGTHS[:, None]
BY_SEQUENCE = {
    "npo",
    "simnpo",
    "dpo",
    "altpo",
    "flat",
    "opt_out",
}  # means over answers, not tokens
LEFT_OUT = {"rmu", "finetune", "negmerge"}  # reads hidden states; has no term; has task_arithmetic's
NAMES = [name for name in groups([config_dir()])["method"] if name not in LEFT_OUT]
VARIANTS = [
    MaxEntropy(form=form, over=over)
    for form in ("neg_entropy", "kl_uniform_p", "kl_p_uniform")
    for over in ("vocabulary", "objects")
]
VARIANTS += [WHP(labels="hard"), RandomLabel(sampler="adversarial"), BadTeacher(temperature=3.0)]


def built(name):
    """A shipped loss method with the plain values of its own yaml; None for other methods."""
    values = OmegaConf.to_container(OmegaConf.load(config_dir() / "method" / f"{name}.yaml"))
    kind = locate(values.pop("_target_"))
    plain = {key: value for key, value in values.items() if not isinstance(value, dict | list)}
    return kind(**plain) if issubclass(kind, LossMethod) else None


LOSSES = {name: method for name in NAMES if (method := built(name)) is not None}
EVERY = [*LOSSES.items(), *((f"variant {place}", method) for place, method in enumerate(VARIANTS))]


def made(seed=0, alternative=True):
    """A batch with all that a loss can read."""
    stream = torch.Generator().manual_seed(seed)

    def logits():
        return torch.randn(5, 3, 7, generator=stream)

    labels = torch.randint(0, 7, (5, 3), generator=stream)
    counts = torch.randint(0, 3, (5, 3, 7), generator=stream).scatter(-1, labels[..., None], 1)
    reference = logits()
    return AnswerBatch(
        logits().requires_grad_(),
        labels,
        reference_logps=reference.log_softmax(-1).gather(-1, labels[..., None])[..., 0],
        reference_logits=reference,
        teachers={"untrained": logits(), "reinforced": logits()},
        alternative=made(seed + 1, alternative=False) if alternative else None,
        continuations=counts,
        mask=MASK,
    )


def changed(batch, change):
    """Its tensors [5, 3, ...], those of its parts included, each as `change` makes it."""
    new = {}
    for column in fields(batch):
        value = getattr(batch, column.name)
        if isinstance(value, torch.Tensor):
            new[column.name] = change(value)
    teachers = {name: change(value) for name, value in batch.teachers.items()}
    alternative = None if batch.alternative is None else changed(batch.alternative, change)
    return replace(batch, **new, teachers=teachers, alternative=alternative)


def scribbled(batch):
    """Other numbers behind the ends."""

    def scribble(value):
        if value.dtype == torch.bool:
            return value
        other = torch.full_like(value, 4) if value.dtype == torch.long else torch.full_like(value, -3.7)
        inside = MASK if value.ndim == 2 else MASK[..., None]
        return torch.where(inside, value, other).detach().requires_grad_(value.requires_grad)

    return changed(batch, scribble)


def alone(batch, row):
    """One answer, without padding and mask."""

    def cut(value):
        return value[row : row + 1, : int(LENGTHS[row])]

    one = changed(batch, cut)
    return replace(one, mask=None, alternative=None if one.alternative is None else replace(one.alternative, mask=None))


def combined(term, batch, weights):
    """The weighted mean of a term over the answers, each by itself."""
    values = torch.stack([term(alone(batch, row)) for row in range(5)])
    return (values * weights).sum() / weights.sum()


@pytest.mark.parametrize(("name", "method"), EVERY)
def test_a_loss_is_that_of_the_answers_apart(name, method):
    batch = made()
    weights = torch.ones(5) if name in BY_SEQUENCE else LENGTHS.float()
    torch.testing.assert_close(method.forget_loss(batch), combined(method.forget_loss, batch, weights))
    retained = combined(method.retain_objective, batch, LENGTHS.float())
    torch.testing.assert_close(method.retain_objective(batch), retained)


@pytest.mark.parametrize(("name", "method"), EVERY)
def test_a_loss_does_not_see_what_stands_behind_an_end(name, method):
    for term in (method.forget_loss, method.retain_objective):
        other = scribbled(made())
        loss = term(other)
        assert float(loss.detach()) == float(term(made()).detach())
        (slope,) = torch.autograd.grad(loss, other.logits)
        assert bool(slope.isfinite().all()) and not bool(slope[~MASK].any())
        assert bool(slope[MASK].any())


def test_the_list_has_every_loss_method():
    assert len(LOSSES) > 20 and set(LOSSES) > BY_SEQUENCE


def test_means_and_sums_by_hand():
    values = torch.arange(15.0).view(5, 3)
    batch = made()
    assert batch.sequence_sum(values).tolist() == [3, 3, 13, 30, 25]
    assert batch.sequence_mean(values).tolist() == [1, 3, 6.5, 10, 12.5]
    assert float(batch.token_mean(values)) == pytest.approx(74 / 11)
    whole = replace(batch, mask=None)
    assert torch.equal(whole.token_mean(values), values.mean()) and torch.equal(
        whole.sequence_sum(values), values.sum(-1)
    )
    assert torch.equal(whole.sequence_mean(values), values.mean(-1))


def test_a_full_mask_is_no_mask():
    batch = made()
    for method in LOSSES.values():
        full, none = (replace(batch, mask=mask) for mask in (torch.ones_like(MASK), None))
        full, none = (replace(each, alternative=replace(batch.alternative, mask=each.mask)) for each in (full, none))
        torch.testing.assert_close(method.forget_loss(full), method.forget_loss(none))


def test_ceu_skips_the_first_tokens_of_each_answer():
    batch, method = made(), CEU(skip_first=1)
    longer = [row for row in range(5) if LENGTHS[row] > 1]
    values = torch.stack([method.forget_loss(alone(batch, row)) for row in longer])
    weights = (LENGTHS[longer] - 1).float()
    torch.testing.assert_close(method.forget_loss(batch), (values * weights).sum() / weights.sum())


def test_an_answer_is_right_by_its_own_tokens():
    batch = made()
    said = torch.nn.functional.one_hot(batch.labels, 7).float()
    said[~MASK] = torch.nn.functional.one_hot((batch.labels[~MASK] + 1) % 7, 7).float()
    assert replace(batch, logits=said).right.all()
    said[2, 1] = torch.nn.functional.one_hot((batch.labels[2, 1] + 1) % 7, 7).float()
    assert replace(batch, logits=said).right.tolist() == [True, True, False, True, True]
