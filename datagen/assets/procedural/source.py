"""Source ``procedural``: objects built from sampled parameters, each written as one GLB."""

import hashlib
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import trimesh
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from datagen.assets.objects import FetchedModel, SourceObject, canonical_json
from datagen.assets.procedural.furnishings import Bookcase, BookStack, Crate, Monitor, TableLamp
from datagen.assets.procedural.materials import Material, draw_texture
from datagen.assets.procedural.seats import Bench, Chair, Sofa, Stool
from datagen.assets.procedural.shapes import Part, merge
from datagen.assets.procedural.tables import Desk, RectangularTable, RoundTable
from datagen.assets.procedural.vessels import Bottle, Bowl, Mug, Plant, Vase
from datagen.core.frames import Z_UP_TO_Y_UP
from datagen.core.seeding import rng_for
from datagen.errors import ConfigError

REVISION = 1
"""Increased when the same parameters give another shape or look."""


class Shape(Protocol):
    """One object: its kind and its parameters."""

    kind: ClassVar[str]
    category: ClassVar[str]

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Shape":
        """Return an object with random parameters."""
        ...

    def build(self) -> list[Part]:
        """Return the object's parts: metres, Z up, standing on z = 0 about the origin."""


KINDS = (
    RectangularTable,
    Mug,
    Chair,
    BookStack,
    RoundTable,
    TableLamp,
    Bowl,
    Desk,
    Bottle,
    Plant,
    Stool,
    Crate,
    Sofa,
    Monitor,
    Bookcase,
    Vase,
    Bench,
)
"""Repeated in this order, so that even a few objects include tables and things to put on them."""


class ProceduralSource:
    """Objects of each kind in turn, with random parameters.

    Args:
        num_objects: how many; at least 1.
        seed: of the parameters.

    Raises:
        ConfigError: num_objects is below 1.
    """

    name = "procedural"

    def __init__(self, *, num_objects: int = 48, seed: int = 0) -> None:
        if num_objects < 1:
            raise ConfigError(
                f"assets: num_objects must be at least 1, got {num_objects}. Correct --num-objects."
            )
        self.num_objects = num_objects
        self.seed = seed

    def fingerprint(self) -> str:
        """Return the sha256 over the kinds, their revision, the seed and the number of objects."""
        kinds = [kind.kind for kind in KINDS]
        identity = [REVISION, kinds, self.seed, self.num_objects]
        return hashlib.sha256(canonical_json(identity)).hexdigest()

    def list_objects(self) -> list[SourceObject]:
        """Return the objects; their kinds repeat in the order of KINDS."""
        return [self.describe(index) for index in range(self.num_objects)]

    def fetch(self, obj: SourceObject, folder: Path) -> FetchedModel:
        """Build one object, write it as a GLB into the folder and return that file."""
        index = int(obj.uid.rpartition("-")[2])
        path = folder / f"{obj.uid}.glb"
        path.write_bytes(glb_bytes(sample_shape(self.seed, index).build()))
        return FetchedModel(path, obj.options)

    def describe(self, index: int) -> SourceObject:
        """Return the object at an index."""
        shape = sample_shape(self.seed, index)
        return SourceObject(
            uid=f"{shape.kind}-{index:05d}",
            name=shape.kind.replace("_", " "),
            category=shape.category,
            license="CC0-1.0",
            author="datagen",
            asset_id=shape_id(shape),
        )


def sample_shape(seed: int, index: int) -> Shape:
    """Return the object at an index within the source."""
    kind = KINDS[index % len(KINDS)]
    return kind.sample(rng_for(seed, "procedural", kind.kind, index // len(KINDS)))


def shape_id(shape: Shape) -> str:
    """Return the sha256 over an object's kind, REVISION and parameters."""
    parameters = asdict(shape)  # type: ignore[call-overload]
    return hashlib.sha256(canonical_json([shape.kind, REVISION, parameters])).hexdigest()


def glb_bytes(parts: list[Part]) -> bytes:
    """Return a GLB, Y up, with one mesh per material; the same parts give the same bytes."""
    by_material: dict[Material, list[Part]] = defaultdict(list)
    for part in parts:
        by_material[part.material].append(part)
    scene = trimesh.Scene()
    for index, group in enumerate(by_material.values()):
        scene.add_geometry(to_trimesh(merge(group)), node_name=f"part_{index:02d}")
    data = scene.export(file_type="glb", include_normals=True)
    assert isinstance(data, bytes), type(data)
    return data


def to_trimesh(part: Part) -> trimesh.Trimesh:
    """Return one part, Y up, with its material as glTF describes it."""
    material = part.material
    linear = np.where(
        np.array(material.color) <= 0.04045,
        np.array(material.color) / 12.92,
        ((np.array(material.color) + 0.055) / 1.055) ** 2.4,
    )
    look = PBRMaterial(
        name="material",
        roughnessFactor=material.roughness,
        metallicFactor=material.metallic,
        baseColorFactor=None if material.pattern else [*linear.tolist(), 1.0],
        baseColorTexture=draw_texture(material) if material.pattern else None,
    )
    tile_m = material.pattern.tile_m if material.pattern else 1.0
    return trimesh.Trimesh(
        vertices=part.vertices @ Z_UP_TO_Y_UP[:3, :3].T,
        faces=part.faces,
        visual=TextureVisuals(uv=part.uv / tile_m, material=look),
        process=False,
    )
