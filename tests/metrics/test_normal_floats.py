"""4-bit normal floats: the published levels, rounding by hand, and the attack on real weights."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from every_metric import metric
from experiments import quick
from scipy.stats import norm
from small_models import neox

from unlearn_cli.errors import ConfigError
from unlearn_cli.observations.quantized import linear_weights, normal_float, normal_levels
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study

PUBLISHED = [  # Dettmers et al. 2023, appendix E, to six places
    -1.0, -0.696193, -0.525073, -0.394917, -0.284441, -0.184773, -0.091050, 0.0,
    0.079580, 0.160930, 0.246112, 0.337915, 0.440710, 0.562617, 0.722957, 1.0,
]  # fmt: skip


def test_the_levels_are_the_published_ones_and_equal_parts_of_a_normal():
    levels = normal_levels()
    assert levels == pytest.approx(PUBLISHED, abs=1e-6)
    mass = norm.cdf(np.array(levels) * norm.ppf(1 - (1 / 32 + 1 / 30) / 2))
    assert np.ptp(np.diff(mass[7:])) < 1e-12  # eight parts above 0
    assert np.ptp(np.diff(mass[:8])) < 1e-12  # seven below


def test_rounding_by_hand():
    """The largest of each group is kept; 0.04 of it is nearer to 0.0796 than to 0, 0.039 is not; 0 stays."""
    code, value = normal_float(torch.tensor([[2.0, -2.0, 0.08, 0.078, -0.1, 0.0, 0.0]]), group=5)
    assert code.tolist() == [[15, 0, 8, 7, 6, 7, 7]]
    expected = [2.0, -2.0, 2 * PUBLISHED[8], 0.0, 2 * PUBLISHED[6], 0.0, 0.0]
    torch.testing.assert_close(value, torch.tensor([expected]), atol=1e-5, rtol=0)


def test_each_weight_goes_to_the_nearest_level_and_stays_there():
    weight = torch.randn(7, 70, generator=torch.Generator().manual_seed(0))
    code, value = normal_float(weight, 64)
    for part, rounded in ((weight[:, :64], value[:, :64]), (weight[:, 64:], value[:, 64:])):
        top = part.abs().amax(1, keepdim=True)
        gaps = (part[..., None] - top[..., None] * torch.tensor(normal_levels(), dtype=torch.float32)).abs()
        torch.testing.assert_close((part - rounded).abs(), gaps.amin(-1), atol=1e-6, rtol=0)
    again, twice = normal_float(value, 64)
    # a group whose largest weight is negative has its largest level there, too
    assert torch.equal(code, again)
    torch.testing.assert_close(twice, value)


def test_the_attack_rounds_linear_layers_and_an_unchanged_model_collides_with_itself(tmp_path):
    study = Study.of(quick(tmp_path))
    model = neox(study)
    scene = replace(scene_of(study), beside={"base": copy.deepcopy(model)})
    attack = metric("quantization_nf4").attack
    handed = copy.deepcopy(model)
    found = attack.observe(handed, scene)
    assert found["same_code"] == found["same_value"] == found["weights"]
    plain = metric("quantization_4").attack.observe(copy.deepcopy(model), scene)
    assert plain["weights"] == found["weights"]
    for name, weight in linear_weights(handed).items():
        assert torch.equal(weight, normal_float(linear_weights(model)[name], 64)[1]), name
        for row in weight:
            assert len(row.unique()) <= 16
    assert torch.equal(handed.get_output_embeddings().weight, model.get_output_embeddings().weight)


def test_normal_floats_have_4_bits():
    with pytest.raises(ConfigError, match="scheme=nf4 has 4 bits"):
        metric("quantization_nf4", bits=8)
