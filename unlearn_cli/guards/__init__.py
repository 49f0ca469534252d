"""Guards: what stands between an unchanged model and its users, saved with its checkpoint.

`load(folder)` reads a checkpoint with its guard; plain `from_pretrained` reads the model without it.
"""

from unlearn_cli.guards.store import load

__all__ = ["load"]
