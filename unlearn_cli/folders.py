"""Whether a folder that a run writes to can be made."""

from __future__ import annotations

import os
from pathlib import Path


def why_not_made(folder: Path) -> str | None:
    """Why `folder` cannot be made or written to, if it cannot; nothing is made."""
    above = next(path for path in [folder, *folder.parents] if path.exists() or path.is_symlink())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return None
    return f"{folder} cannot be made, since {above} is {'not writable' if above.is_dir() else 'no folder'}"
