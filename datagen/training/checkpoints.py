"""States to resume from: each is written atomically, and the last few are kept."""

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from datagen.errors import DatasetError

logger = logging.getLogger(__name__)

STATES = "checkpoints"


class Checkpoints:
    """The states of one training, ``checkpoints/step-XXXXXXXX.pt`` in its folder."""

    def __init__(self, folder: Path, keep_last: int) -> None:
        self._folder = folder / STATES
        self._keep_last = keep_last

    def paths(self) -> list[Path]:
        """Return the files of the states, the oldest first."""
        return sorted(self._folder.glob("step-*.pt"))

    def write(self, step: int, state: dict[str, Any]) -> None:
        """Write a state atomically, then delete all but the last ``keep_last``."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"step-{step:08d}.pt"
        partial = path.with_name(f".{path.name}.part")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave the name without the bytes
        partial.replace(path)
        for old in self.paths()[: -self._keep_last]:
            old.unlink()

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """Return the last readable state and its file; None if there are no states.

        Raises:
            DatasetError: there are states, but none can be read.
        """
        paths = self.paths()[::-1]
        for path in paths:
            try:
                return path, torch.load(path, map_location="cpu", weights_only=True)
            except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
                reason = str(error).strip().splitlines()[:1]
                logger.warning(f"train: {path} cannot be read ({reason}); trying an older state")
        if paths:
            raise DatasetError(
                f"{self._folder}: none of {len(paths)} states can be read (last: {paths[0].name}). "
                "Expected at least one intact state; start again with --overwrite."
            )
        return None

    def delete(self) -> None:
        """Delete all states; a finished training needs none."""
        for path in self.paths():
            path.unlink()
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()
