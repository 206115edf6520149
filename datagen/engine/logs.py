"""The folders of logs."""

import hashlib
import tempfile
from pathlib import Path

from datagen.shards import Folder


def log_folder(folder: Folder) -> Path:
    """Return the local folder for a folder's logs: in it, or temporary if it is remote."""
    if folder.is_local:
        return folder.path / "logs"
    name = hashlib.sha256(folder.url.encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / "datagen-logs" / name


def workspace_of(folder: Folder) -> Folder:
    """Return the workspace of a stage's folder: its parent."""
    return Folder(folder.url.rstrip("/").rsplit("/", 1)[0])
