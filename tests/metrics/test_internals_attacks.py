"""Steering and soft prompts: nothing changes nothing, what was planted is undone."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from experiments import quick
from small_models import SHAPES, neox, shaped

from unlearn_cli import predict
from unlearn_cli.guards.base import Guarded
from unlearn_cli.observations.base import Unobservable
from unlearn_cli.observations.inserted import Projected, Pushed, SoftPrompt
from unlearn_cli.observations.slices import tune_facts
from unlearn_cli.observations.soft_prompted import SoftPrompted
from unlearn_cli.observations.steered import Steered, steered
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study.of(quick(tmp_path_factory.mktemp("attacks")))


def ask(model, scene, rows):
    return predict.predict(model, scene.world, scene.probes.only(rows), 64).candidate_logps


@pytest.mark.parametrize("kind", SHAPES)
def test_a_push_of_0_and_no_embeddings_change_nothing(kind, study):
    model, scene = shaped(kind, study), scene_of(study)
    rows = scene.probes.splits["forget"].rows
    plain = ask(model, scene, rows)
    width = model.config.hidden_size
    for guard in (Pushed(1, torch.zeros(width)), Projected(0, torch.zeros(width)), SoftPrompt(torch.zeros(0, width))):
        with torch.no_grad():
            np.testing.assert_allclose(ask(Guarded(model, guard), scene, rows), plain, atol=1e-5)


def test_embeddings_of_tokens_are_these_tokens(study):
    model, scene = shaped("llama", study), scene_of(study)
    sentences = scene.world.sentences(scene.probes.fact[:3], scene.probes.template[:3])
    ids, read = torch.from_numpy(sentences.input_ids), torch.from_numpy(sentences.positions - 1)
    prefix = torch.tensor([4, 7])
    prompt = SoftPrompt(model.get_input_embeddings().weight[prefix].detach())
    with torch.no_grad():
        mine = prompt.answer_logits(model, ids, read, read[:, 0])
        theirs = model(input_ids=torch.cat([prefix.expand(3, -1), ids], dim=1)).logits
    torch.testing.assert_close(mine[:, 0], theirs[torch.arange(3), read[:, 0] + 2], atol=1e-5, rtol=1e-5)


def test_a_projection_takes_out_the_direction_and_nothing_else():
    states = torch.tensor([[3.0, 4.0, 5.0]])
    assert Projected(0, torch.tensor([0.0, 2.0, 0.0])).moved(states).tolist() == [[3, 0, 5]]
    assert Pushed(0, torch.tensor([1.0, 0.0, -1.0])).moved(states).tolist() == [[4, 4, 4]]


def masked(model, mask):
    """The model with `mask` added to the last block's output by its own weights."""
    edited = copy.deepcopy(model)
    edited.gpt_neox.layers[-1].mlp.dense_4h_to_h.bias.data += mask
    return edited


def test_a_mask_that_was_added_is_undone(study):
    base = neox(study)
    scene = replace(scene_of(study), beside={"base": base})
    mask = 30 * torch.randn(base.config.hidden_size, generator=torch.Generator().manual_seed(0))
    edited = masked(base, mask)
    found = Steered(kind="means").observe(copy.deepcopy(edited), scene)
    clean = ask(base, scene, found["rows"])
    assert not np.allclose(ask(edited, scene, found["rows"]), clean, atol=0.1)
    assert not np.isin(scene.probes.fact[found["rows"]], tune_facts(scene)).any()
    restored = ask(steered(edited, 1, -mask, "means"), scene, found["rows"])
    np.testing.assert_allclose(restored, clean, atol=1e-3)
    same = Steered(kind="means").observe(copy.deepcopy(base), scene)
    np.testing.assert_allclose(same["candidate_logps"][0], clean, atol=1e-5)  # no difference, no push


def test_projecting_a_large_mask_out_gives_the_answers_back(study):
    """What remains differs from the base by its own part along the mask."""
    base = neox(study)
    scene = scene_of(study)
    mask = 300 * torch.randn(base.config.hidden_size, generator=torch.Generator().manual_seed(0))
    edited = masked(base, mask)
    rows = scene.probes.splits["forget"].rows
    projected = steered(edited, 1, mask, "orthogonal")
    clean, hidden, restored = (ask(model, scene, rows) for model in (base, edited, projected))
    finite = np.isfinite(clean)
    assert np.abs(restored - clean)[finite].mean() < np.abs(hidden - clean)[finite].mean() / 3


def test_the_direction_is_learned_on_the_prompts_that_were_lost(study):
    """Where base and model answer alike there is none, and every prompt of the slice is taken."""
    base = neox(study)
    scene = replace(scene_of(study), beside={"base": base})
    found = Steered(kind="orthogonal").observe(copy.deepcopy(base), scene)
    np.testing.assert_allclose(found["candidate_logps"][0], ask(base, scene, found["rows"]), atol=1e-5)


def test_a_soft_prompt_is_trained_on_facts_that_are_not_scored_and_lowers_the_loss(study):
    scene, model = scene_of(study), neox(study)
    kept = copy.deepcopy(model.state_dict())
    found = SoftPrompted(tokens=4, lr=0.2, steps=30).observe(model, scene)
    assert found["loss"][-5:].mean() < found["loss"][:5].mean() - 0.1
    assert not np.isin(scene.probes.fact[found["rows"]], tune_facts(scene)).any()
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())


def test_a_soft_prompt_that_does_not_fit_is_refused(study):
    with pytest.raises(Unobservable, match="too long"):
        SoftPrompted(tokens=60, lr=0.2, steps=1).observe(neox(study), scene_of(study))
