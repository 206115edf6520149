"""Two rooms of boxes, in the GLB files of 3D-FRONT as processed by MIDI."""

import json
from pathlib import Path

import trimesh

from datagen.core.frames import Z_UP_TO_Y_UP

ROOM = "house-1/Bedroom-12"


OBJECTS = {
    "Bed_aa_0": ((2.0, 1.6, 0.5), (1.0, -2.0, 0.25)),
    "Lamp_bb_1": ((0.3, 0.3, 0.6), (-0.4, 0.5, 1.3)),
}
"""Box sides and centre, z_up, metres."""


def write_rooms(folder: Path) -> Path:
    """Write two rooms of boxes; the second also has a flat sheet."""
    rooms = {ROOM: ["Lamp_bb_1", "Bed_aa_0"], "house-2/Hall-3": ["Bed_aa_0", "Rug_cc_0"]}
    for room, names in rooms.items():
        path = folder / "3D-FRONT-SCENE" / room
        path.mkdir(parents=True)
        for name in names:
            sides, center = OBJECTS.get(name, ((2.0, 1.0, 0.0), (0.0, 0.0, 0.0)))
            box = trimesh.creation.box(sides).apply_translation(center)
            box.vertices = box.vertices @ Z_UP_TO_Y_UP[:3, :3].T
            box.export(path / f"{name}.glb")
    (folder / "midi_room_ids.json").write_text(json.dumps(list(rooms)))
    (folder / "midi_furniture_ids.json").write_text(json.dumps(list(rooms.values())))
    return folder
