"""SceneGen: ``<scene>.glb`` with a node an asset, in the order of the masks, transforms to apply.

Source: SceneGen's ``evalscene``. The scene is scaled to ±0.98; the first asset stands unturned, so
that the whole has any yaw against the truth: align it.
"""

from pathlib import Path

from datagen.evaluation.readers.glb import read_glb
from datagen.evaluation.readers.scenes import ReadScene, SceneFormat, glb_files


def _read(path: Path) -> ReadScene:
    return ReadScene(tuple(mesh for _, mesh in read_glb(path)))


SCENEGEN = SceneFormat(glb_files, _read, (-0.98, 0.98))
