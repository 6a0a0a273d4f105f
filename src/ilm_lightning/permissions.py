"""Who may read what was written."""

import os
from pathlib import Path


def follow_umask(path: Path) -> None:
    """Give weight files the permissions that any new file has here; safetensors leaves them to their owner alone.

    Args:
        path: a file, or a folder whose ``*.safetensors`` are meant.
    """
    # the umask can only be read by setting it; for that moment the strict way
    umask = os.umask(0o077)
    os.umask(umask)
    for file in path.rglob("*.safetensors") if path.is_dir() else [path]:
        file.chmod(0o666 & ~umask)
