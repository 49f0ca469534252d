"""The command line of `unlearn cache`: mistakes are told with what is allowed."""

from __future__ import annotations

import pytest
from cache_samples import make

from unlearn_cli.cache import STAGES, Cache
from unlearn_cli.cache.arguments import parse_duration
from unlearn_cli.cache.housekeeping import main


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["prune", "--stage", "trian"], [", ".join(STAGES), "Did you mean train?"]),
        (["prune", "--older-than", "30x"], ["30x", "m, h, d, w"]),
        (["prune", "--older-than", "soon"], ["soon", "30d"]),
        (["prune", "--forse"], ["Did you mean --force?"]),
        (["prun"], ["list", "verify", "Did you mean prune?"]),
        ([], ["list,verify,prune"]),
        (["list", "--dry-run"], ["unrecognized arguments: --dry-run.\n"]),
    ],
)
def test_mistakes_are_told_with_what_is_allowed(
    cache: Cache, args: list[str], told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = make(cache, "train", 10)
    assert main(["--cache", str(cache.root), *args]) == 2
    out, err = capsys.readouterr()
    assert out == "" and all(part in err for part in told) and "Traceback" not in err
    assert artifact.path.exists()


def test_a_missing_folder_is_told_with_its_nearest_neighbour(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    cache.root.mkdir()
    missing = cache.root.with_name("cahce")
    assert main(["list", "--cache", str(missing)]) == 2
    assert capsys.readouterr().err == f"There is no cache folder {missing}. Did you mean cache?\n"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("12h", 43200), ("30d", 2592000), ("2w", 1209600), ("0.5h", 1800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
