"""Where the logs of a workspace go."""

import hashlib
import tempfile
from pathlib import Path

from datagen.shards import Folder


def log_folder(folder: Folder) -> Path:
    """Return the local folder for a folder's logs: inside it, or a temporary one if it is far."""
    if folder.is_local:
        return folder.path / "logs"
    name = hashlib.sha256(folder.url.encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / "datagen-logs" / name


def workspace_of(folder: Folder) -> Folder:
    """Return the workspace that a stage's folder lies in."""
    return Folder(folder.url.rstrip("/").rsplit("/", 1)[0])
