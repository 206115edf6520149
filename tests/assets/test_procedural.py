"""Protects the source ``procedural``: closed shapes of real sizes, the same bytes every time."""

import json
import struct

import numpy as np
import pytest
import trimesh

from datagen.assets.procedural import KINDS, ProceduralSource
from datagen.assets.procedural.materials import Material, Pattern, draw_texture
from datagen.assets.procedural.shapes import box, cushion, cylinder, lathe, prism, tube
from datagen.assets.procedural.source import glb_bytes, sample_shape
from datagen.core.frames import Z_UP_TO_Y_UP
from datagen.errors import ConfigError

GREY = Material((0.5, 0.5, 0.5))
HEIGHTS_M = {
    "rectangular_table": (0.7, 0.8),
    "round_table": (0.67, 0.77),
    "desk": (0.95, 1.2),
    "chair": (0.8, 1.1),
    "stool": (0.4, 0.8),
    "sofa": (0.7, 1.0),
    "mug": (0.08, 0.12),
    "bottle": (0.2, 0.35),
    "bowl": (0.05, 0.12),
}


def solid(part):
    return trimesh.Trimesh(part.vertices, part.faces, process=True)


@pytest.mark.parametrize(
    ("part", "volume", "extents"),
    [
        (box((1, 2, 3), (0, 0, 0), GREY), 6.0, (1, 2, 3)),
        (cylinder(0.5, 2.0, (0, 0, 0), GREY, segments=256), np.pi / 2, (1, 1, 2)),
        (cushion((1, 1, 1), (0, 0, 0), 0.5, GREY, 24), np.pi / 6, (1, 1, 1)),
        (tube([[0, 0, 0], [0, 0, 2]], 0.5, GREY, 256), np.pi / 2, (1, 1, 2)),
        (prism([(0, 0), (1, 0), (0, 1)], 2.0, (0, 0, 0), GREY), 1.0, (1, 2, 1)),
        (lathe([(0, 0), (1, 0), (0, 1)], (0, 0, 0), GREY, 256), np.pi / 3, (2, 2, 1)),
    ],
    ids=["box", "cylinder", "cushion", "tube", "prism", "cone"],
)
def test_shape_is_closed_faces_outward_and_has_its_volume(part, volume, extents):
    mesh = solid(part)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(volume, rel=0.02)
    assert mesh.extents == pytest.approx(extents, abs=0.01)


def test_bent_tube_stays_closed_and_keeps_its_thickness():
    mesh = solid(tube([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], 0.05, GREY))
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(3 * np.pi * 0.05**2, rel=0.1)


@pytest.mark.parametrize("index", range(2 * len(KINDS)))
def test_object_has_a_plausible_size_and_stands_on_the_ground(index):
    shape = sample_shape(0, index)
    parts = shape.build()
    vertices = np.concatenate([part.vertices for part in parts])
    num_faces = sum(len(part.faces) for part in parts)
    extent = np.ptp(vertices, axis=0)
    low, high = HEIGHTS_M.get(shape.kind, (0.05, 2.2))
    assert low <= extent[2] <= high
    assert vertices[:, 2].min() == pytest.approx(0.0, abs=0.015)
    assert 100 <= num_faces <= 5000
    assert all(part.faces.max() < len(part.vertices) == len(part.uv) for part in parts)
    assert np.isfinite(vertices).all()
    assert all(0.0 <= channel <= 1.0 for part in parts for channel in part.material.color)


def test_at_least_ten_kinds_with_tables_and_tableware():
    kinds = {kind.kind for kind in KINDS}
    assert len(kinds) == len(KINDS) >= 10
    assert kinds >= {
        *("rectangular_table", "round_table", "desk", "chair", "lamp"),
        *("mug", "bowl", "bottle", "book_stack"),
    }


def test_list_is_stable_and_identities_are_unique():
    objects = ProceduralSource(num_objects=60, seed=3).list_objects()
    assert objects == ProceduralSource(num_objects=60, seed=3).list_objects()
    assert len({obj.asset_id for obj in objects}) == 60
    assert {obj.license for obj in objects} == {"CC0-1.0"}


def test_longer_list_starts_with_the_shorter_one():
    assert (
        ProceduralSource(num_objects=40).list_objects()[:20]
        == ProceduralSource(num_objects=20).list_objects()
    )


def test_other_seed_gives_other_objects_and_fingerprint():
    one, two = ProceduralSource(num_objects=20, seed=1), ProceduralSource(num_objects=20, seed=2)
    assert one.fingerprint() != two.fingerprint()
    ids = [{obj.asset_id for obj in source.list_objects()} for source in (one, two)]
    assert not ids[0] & ids[1]


def test_no_objects_is_refused():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        ProceduralSource(num_objects=0)


@pytest.mark.parametrize("index", range(0, len(KINDS), 3))
def test_fetch_writes_the_same_bytes_twice(tmp_path, index):
    source = ProceduralSource(num_objects=len(KINDS))
    obj = source.list_objects()[index]
    (tmp_path / "again").mkdir()
    first = source.fetch(obj, tmp_path).path.read_bytes()
    assert source.fetch(obj, tmp_path / "again").path.read_bytes() == first


def test_glb_is_y_up_and_carries_colour_and_texture():
    painted = box((1, 2, 3), (0, 0, 1.5), GREY)
    striped = Material((1.0, 0.0, 0.0), pattern=Pattern("stripes", (0.0, 0.0, 1.0), 0.5))
    data = glb_bytes([painted, box((1, 1, 1), (0, 0, 3.5), striped)])
    scene = trimesh.load(trimesh.util.wrap_as_stream(data), file_type="glb")
    assert scene.extents == pytest.approx(Z_UP_TO_Y_UP[:3, :3].__abs__() @ [1, 2, 4])
    (length,) = struct.unpack("<I", data[12:16])
    header = json.loads(data[20 : 20 + length])
    plain, textured = (m["pbrMetallicRoughness"] for m in header["materials"])
    # glTF factors are linear: sRGB 0.5 is 0.214.
    assert plain["baseColorFactor"][:3] == pytest.approx([0.214] * 3, abs=0.003)
    assert "baseColorTexture" in textured


@pytest.mark.parametrize("kind", ["wood", "checker", "stripes", "weave", "speckle"])
def test_texture_repeats_without_a_seam_and_shows_both_colours(kind):
    material = Material((1.0, 1.0, 1.0), pattern=Pattern(kind, (0.0, 0.0, 0.0), 0.1))
    pixels = np.asarray(draw_texture(material), np.float64)[..., 0]
    assert np.ptp(pixels) > 25
    inner = np.abs(np.diff(pixels, axis=1)).mean(axis=0).max()
    seam = np.abs(pixels[:, 0] - pixels[:, -1]).mean()
    assert seam <= inner + 1.0
