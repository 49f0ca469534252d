"""A world without its facts as JSON: its relations, vocabulary and templates, and what follows from what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from unlearn_cli import __version__
from unlearn_cli.exchange.bundle import Bundle
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.correlation import Correlation
from unlearn_cli.worlds.counterfactual import Nesting
from unlearn_cli.worlds.facts import FactTable, Relations
from unlearn_cli.worlds.language import Forms, Language, Listed
from unlearn_cli.worlds.nonsense import Nonsense
from unlearn_cli.worlds.vocabulary import Ids, Vocabulary
from unlearn_cli.worlds.wording import Phrasings

LAYOUT = 1  # raise it when what is written here can no longer be read by older programs
Json = Mapping[str, Any]


def problems(world: WorldData, name: str) -> list[str]:
    """Why a world cannot be described, if it cannot."""
    if world.rules is not None:
        return [f"--format {name}: a world of records and rules cannot be written"]
    forms = _grammatical(world).forms
    if type(forms) in (Listed, Nonsense):
        return []
    return [f"--format {name}: templates of the kind {type(forms).__name__} cannot be written"]


def _grammatical(world: WorldData) -> Language:
    """The language of a generated world; of real text there is none to describe, its files are its description."""
    assert isinstance(world.language, Language), "checked by export"
    return world.language


def describe(bundle: Bundle) -> dict[str, Any]:
    """Everything but the facts, whose hash is told."""
    world = bundle.world
    relations, nesting, correlation = world.relations, world.nesting, world.correlation
    return {
        "layout": LAYOUT,
        "unlearn": __version__,
        "seed": world.seed,
        "facts_sha256": world.facts.sha256(),
        "relations": {
            "subjects": relations.subjects,
            "edge": relations.edge.tolist(),
            "objects": relations.objects.tolist(),
            "first": relations.first.tolist(),
        },
        "vocabulary": {
            name: [role.words, role.tokens_per_word] if role.names is None else list(role.names)
            for name, role in world.vocabulary.roles.items()
        },
        "language": _language(_grammatical(world)),
        "nesting": None if nesting is None else {"value": nesting.value.tolist(), "nested": nesting.nested},
        "correlation": None if correlation is None else {"joint": correlation.joint.tolist()},
        "config": dict(bundle.config),
    }


def restore(document: Json, facts: FactTable, seed: int) -> WorldData:
    """The world that was described, with these facts; a KeyError, TypeError or ValueError if none was."""
    correlation = document["correlation"]
    return WorldData(
        facts,
        relations(document),
        _restored(document["language"], _vocabulary(document["vocabulary"])),
        seed,
        None if correlation is None else Correlation(np.array(correlation["joint"], dtype=np.float64)),
        nesting(document),
    )


def relations(document: Json) -> Relations:
    """The relations that were described."""
    told = document["relations"]
    return Relations(int(told["subjects"]), np.array(told["edge"]), _ids(told["objects"]), _ids(told["first"]))


def nesting(document: Json) -> Nesting | None:
    """What follows from objects, as it was described."""
    told = document["nesting"]
    return None if told is None else Nesting(_ids(told["value"]), int(told["nested"]))


def _language(language: Language) -> dict[str, Any]:
    phrasings = language.phrasings
    return {
        "forms": _forms(language.forms),
        "count": language.count,
        "phrasings": {name: getattr(phrasings, name).tolist() for name in ("asked", "heldout", "reordered")},
        "subjects": language.subjects,
        "first": language.first.tolist(),
        "own": None if language.own is None else language.own.tolist(),
    }


def _forms(forms: Forms) -> dict[str, Any]:
    if isinstance(forms, Listed):
        weights = None if forms.weights is None else forms.weights.tolist()
        return {"kind": "listed", "rows": forms.rows.tolist(), "trained": forms.trained.tolist(), "weights": weights}
    assert isinstance(forms, Nonsense)
    return {"kind": "nonsense", "lexicon": forms.lexicon, "inversion": forms.inversion, "seed": forms.seed}


def _vocabulary(told: Json) -> Vocabulary:
    """Of each role the words, or two numbers: how many there are, and the tokens of each."""
    return Vocabulary.of({name: _role(size) for name, size in told.items()})


def _role(told: Any) -> tuple[int, int] | list[str]:
    if all(isinstance(word, str) for word in told):
        return list(told)
    words, tokens = map(int, told)
    if not (0 < words < 2**31 and 0 < tokens < 32):
        raise ValueError(f"{words} words of {tokens} tokens")
    return words, tokens


def _restored(told: Json, vocabulary: Vocabulary) -> Language:
    own = None if told["own"] is None else _ids(told["own"])
    phrasings = Phrasings(**{name: _ids(templates) for name, templates in told["phrasings"].items()})
    first, forms = _ids(told["first"]), _restored_forms(told["forms"])
    return Language(vocabulary, forms, int(told["count"]), phrasings, int(told["subjects"]), first, own)


def _restored_forms(told: Json) -> Forms:
    if told["kind"] == "nonsense":
        return Nonsense(int(told["lexicon"]), float(told["inversion"]), int(told["seed"]))
    if told["kind"] != "listed":
        raise ValueError(f"templates of the kind {told['kind']}")
    weights = None if told["weights"] is None else np.array(told["weights"], dtype=np.float64)
    return Listed(_ids(told["rows"]), _ids(told["trained"]), weights)


def _ids(values: Any) -> Ids:
    return np.array(values, dtype=np.int64)
