"""The digest of a stage."""

from __future__ import annotations

import hashlib
from types import MappingProxyType

import pytest
from cache_samples import STAGE

from unlearn_cli.cache import STAGES, Stage


def test_the_digest_is_that_of_the_canonical_text() -> None:
    text = '{"inputs":{"lr":0.001,"seed":0},"stage":"train"}'
    assert STAGE.digest == hashlib.sha256(text.encode()).hexdigest()[:16] == "bdbefc69592e9a44"


def test_the_digest_ignores_label_and_order_and_nothing_else() -> None:
    other = Stage("train", "another label", MappingProxyType({"lr": 1e-3, "seed": 0}))
    assert other.digest == STAGE.digest
    assert Stage("gold", "small", STAGE.inputs).digest != STAGE.digest
    assert Stage("train", "small", {"seed": 1, "lr": 1e-3}).digest != STAGE.digest


def test_only_known_stages() -> None:
    with pytest.raises(ValueError, match=f"'trian'.*{', '.join(STAGES)}"):
        Stage("trian", "small", {})
