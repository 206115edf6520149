"""Every method's output as it is on disk: scene ids, and each scene's instances, Z up."""

from datagen.evaluation.readers.datagen import DATAGEN
from datagen.evaluation.readers.folder import GLB, ORDERED_GLB
from datagen.evaluation.readers.front3d import FRONT3D
from datagen.evaluation.readers.gen3dsr import GEN3DSR
from datagen.evaluation.readers.iscene import ISCENE
from datagen.evaluation.readers.midi import MIDI
from datagen.evaluation.readers.partcrafter import PARTCRAFTER
from datagen.evaluation.readers.scenegen import SCENEGEN
from datagen.evaluation.readers.scenes import ReadScene, SceneFormat, extent, found_scenes, reach

PREDICTED: dict[str, SceneFormat] = {
    "datagen": DATAGEN,
    "gen3dsr": GEN3DSR,
    "glb": GLB,
    "iscene": ISCENE,
    "midi": MIDI,
    "partcrafter": PARTCRAFTER,
    "scenegen": SCENEGEN,
}
"""Formats of predictions, by the name that ``--format`` takes."""

TRUE: dict[str, SceneFormat] = {"3dfront": FRONT3D, "glb": ORDERED_GLB}
"""Formats of truth in files, by the name that ``--gt-format`` takes."""

__all__ = ["PREDICTED", "TRUE", "ReadScene", "SceneFormat", "extent", "found_scenes", "reach"]
