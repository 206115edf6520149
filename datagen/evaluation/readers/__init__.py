"""Every method's output as it is on disk: scene ids, and each scene's instances, Z up."""

from datagen.evaluation.readers.datagen import DATAGEN
from datagen.evaluation.readers.folder import GLB, ORDERED_GLB
from datagen.evaluation.readers.front3d import FRONT3D
from datagen.evaluation.readers.gen3dsr import GEN3DSR
from datagen.evaluation.readers.iscene import ISCENE
from datagen.evaluation.readers.midi import MIDI
from datagen.evaluation.readers.partcrafter import PARTCRAFTER
from datagen.evaluation.readers.scenegen import SCENEGEN
from datagen.evaluation.readers.scenes import Format, ReadScene, extent, found_scenes, reach

PREDICTED: dict[str, Format] = {
    "datagen": DATAGEN,
    "gen3dsr": GEN3DSR,
    "glb": GLB,
    "iscene": ISCENE,
    "midi": MIDI,
    "partcrafter": PARTCRAFTER,
    "scenegen": SCENEGEN,
}
"""Layouts of predictions."""

TRUE: dict[str, Format] = {"3dfront": FRONT3D, "glb": ORDERED_GLB}
"""Layouts of truth that lie in files; a workspace is read by the stage."""

__all__ = ["PREDICTED", "TRUE", "Format", "ReadScene", "extent", "found_scenes", "reach"]
