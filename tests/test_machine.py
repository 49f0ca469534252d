"""What a machine lacks, told with the setting that helps."""

import pytest

from unlearn_cli.errors import UnlearnError
from unlearn_cli.machine import Numerics, float64_wanted


def wanting(accelerator, error):
    with float64_wanted(Numerics(accelerator, 1, 1, "fp32"), "edit"):
        raise error


def test_a_device_without_float64_is_named_with_the_way_out():
    lacking = TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")
    with pytest.raises(UnlearnError, match=r"^edit: trainer.accelerator=mps has no float64.*accelerator=cpu$"):
        wanting("mps", lacking)


@pytest.mark.parametrize(("accelerator", "text"), [("cpu", "no float64 here"), ("mps", "not a number")])
def test_other_errors_stay_what_they_are(accelerator, text):
    with pytest.raises(TypeError, match=text):
        wanting(accelerator, TypeError(text))
