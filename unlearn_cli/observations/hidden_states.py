"""The residual stream at the end of the prompt and at the end of the subject's name, for some probes and training
facts.

Everything that is read off states rather than taken from a running model (probes, CKA) reads these. States are those
before the final norm. Published positions: last subject token and last prompt token (Meng et al. 2022, arXiv
2202.05262; Allen-Zhu & Li 2023, arXiv 2309.14316).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Ids
from unlearn_cli.neighbourhood import MUST_NOT_CHANGE, neighbourhoods
from unlearn_cli.observations.base import Observation, Scene
from unlearn_cli.observations.slices import old_objects, some_rows, tune_part
from unlearn_cli.streams import generator


@component
class HiddenStates(Observation):
    """States after the embedding and every block, of probes and of a training sample.

    The sample are trained facts of the requested relations that must not change, those of the probes left out; each is
    stated in `train_templates` trained phrasings. The same rows in the same order for every model.
    """

    VERSION: ClassVar[int] = 2
    guarded: ClassVar[bool] = False  # who reads states has the weights

    facts: Count = 100  # facts whose probes are read in each split; of the requested facts all
    train_facts: Count = 2000  # facts of the training sample
    train_templates: Count = 4  # phrasings of each of them

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """Probes: `rows`, `relation`, `tune` [n] (whether in its split's tune slice), `end`, `subject` [L + 1, n, d].

        Training sample: `train_relation`, `train_object` [m], `train_end`, `train_subject` [L + 1, m, d]; and
        `train_control`, the objects shuffled among the facts of a relation, so that they say nothing. The arrays
        `subject` and `train_subject` are left out where a prompt names no subject.
        """
        probes = scene.probes
        rows = some_rows(scene, self.facts)
        sample, templates = self._sample(scene, rows)
        return {
            "rows": rows,
            "relation": scene.world.kinds(probes.fact[rows]),
            "tune": np.isin(probes.fact[rows], tune_part(scene, rows)),
            "train_relation": scene.world.kinds(sample),
            "train_object": old_objects(scene, sample),
            "train_control": self._shuffled(scene, sample),
            **_states(model, scene, probes.fact[rows], probes.template[rows]),
            **{f"train_{name}": found for name, found in _states(model, scene, sample, templates).items()},
        }

    def _sample(self, scene: Scene, rows: Ids) -> tuple[Ids, Ids]:
        """Facts and templates of the training sample, [m] each."""
        world, parts = scene.world, neighbourhoods(scene.world, scene.request)
        facts = np.concatenate([parts[name] for name in MUST_NOT_CHANGE])
        related = np.isin(world.kinds(facts), world.kinds(scene.request.facts))
        trained = world.facts.exposure[facts] > 0
        asked = np.isin(facts, scene.probes.fact[rows])
        facts = np.sort(facts[related & trained & ~asked])
        rng = generator(scene.seed, "hidden_states")
        facts = np.sort(rng.choice(facts, min(self.train_facts, len(facts)), replace=False))
        phrasings = world.language.asked
        places = rng.random((len(facts), len(phrasings))).argsort(1)[:, : self.train_templates]
        return np.repeat(facts, places.shape[1]), phrasings[places.ravel()]

    def _shuffled(self, scene: Scene, sample: Ids) -> Ids:
        """An object for each statement [m], drawn without replacement from those of the relation, one for each fact."""
        facts, place = np.unique(sample, return_inverse=True)
        relation, objects = scene.world.kinds(facts), old_objects(scene, facts)
        rng = generator(scene.seed, "hidden_states", "control")
        for r in np.unique(relation):
            members = np.flatnonzero(relation == r)
            objects[members] = rng.permutation(objects[members])
        return objects[place]


def _states(model: Any, scene: Scene, facts: Ids, templates: Ids) -> dict[str, Any]:
    """The states at the end of each prompt, and at the end of the subject where every prompt has one."""
    import torch

    from unlearn_cli.methods.editing.network import at
    from unlearn_cli.observations.residual import streams

    sentences = scene.world.sentences(facts, templates)
    places = {"end": sentences.answer_start - 1}
    if (sentences.subject_end >= 0).all():
        places["subject"] = sentences.subject_end
    kept: dict[str, list[Any]] = {name: [] for name in places}
    device = next(model.parameters()).device
    length = int(sentences.answer_start.max(initial=1))
    for start in range(0, len(facts), scene.batch_size):
        part = slice(start, start + scene.batch_size)
        ids = torch.from_numpy(sentences.input_ids[part, :length]).to(device)
        found = streams(model, ids)
        for name, place in places.items():
            where = torch.from_numpy(place[part, None]).to(device)
            kept[name].append(torch.stack([at(states, where)[:, 0] for states in found]).float().cpu().numpy())
    width, layers = model.config.hidden_size, model.config.num_hidden_layers
    nothing = np.empty((layers + 1, 0, width), dtype=np.float32)
    return {name: np.concatenate([nothing, *pieces], axis=1) for name, pieces in kept.items()}
