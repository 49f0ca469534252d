"""The overrides of an experiment that trains in two seconds, for commands that tests of sweeps call."""

TINY = [
    "world=tabular_tiny",
    "world.subjects=20",
    "world.relations=2",
    "world.objects=5",
    "world.grammar.templates=2",
    "world.grammar.heldout=1",
    "edit.n=4",
    "model.hidden_size=32",
    "model.heads=2",
    "model.mlp_size=64",
    "train.batch_size=20",
    "train.max_passes=75",
    "train.decay_passes=75",
    "train.matrix_lr=0.02",
    "train.min_recall=0.9",
]
