"""What each camera sees, from one ray a pixel: decided before anything is rendered.

Rays go through pixel centres, with Embree in float32; geometry and cameras are moved so that the
scene's box is centred at the origin, where float32 has its digits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from datagen.core.cameras import camera_position, project
from datagen.core.frames import Floats

Mesh = tuple[NDArray[np.floating[Any]], NDArray[np.integer[Any]]]
"""Vertices (V, 3), metres, world, and faces (F, 3)."""

Rectangle = tuple[slice, slice]
InstanceMap = NDArray[np.unsignedinteger[Any]]
Pixels = NDArray[np.intp]

WINDOW_MARGIN_PX = 6


@dataclass(frozen=True)
class VisibleView:
    """What one camera sees."""

    instance_map: InstanceMap
    """(H, W), uint8, or uint16 above 255 placements: 0 background, i + 1 placement i."""

    depth_z: NDArray[np.float32]
    """(H, W), metres, planar depth; inf where there is background."""

    transparent_map: NDArray[np.bool_]
    """(H, W): the first hit has a material with alpha below 1."""

    visible_px: NDArray[np.int32]
    """(N,): pixels in which placement i is the first hit."""

    amodal_px: NDArray[np.int32]
    """(N,): pixels that placement i would have if it stood there alone."""

    @property
    def window_px(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom (beyond the last) of what is seen, with a margin.

        The margin holds the pixels that an object covers in part, and a little background in
        which a picture could be caught showing what no ray met.
        """
        height, width = self.instance_map.shape
        rows, columns = (np.flatnonzero(self.instance_map.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return 0, 0, width, height
        return (
            max(0, int(columns[0]) - WINDOW_MARGIN_PX),
            max(0, int(rows[0]) - WINDOW_MARGIN_PX),
            min(width, int(columns[-1]) + 1 + WINDOW_MARGIN_PX),
            min(height, int(rows[-1]) + 1 + WINDOW_MARGIN_PX),
        )


class SceneGeometry:
    """The triangles of a scene, ready for rays.

    Args:
        placements: a mesh each, in world space; the order gives the instance map's numbers.
        transparent: (F,) bool a placement, the faces whose material has alpha below 1; None, as a
            whole or for a placement, where all faces are opaque.
    """

    def __init__(
        self,
        placements: Sequence[Mesh],
        transparent: Sequence[NDArray[np.bool_] | None] | None = None,
    ) -> None:
        boxes = np.array([[mesh[0].min(axis=0), mesh[0].max(axis=0)] for mesh in placements])
        self.center_m: Floats = (boxes[:, 0].min(axis=0) + boxes[:, 1].max(axis=0)) / 2
        self._boxes = boxes - self.center_m
        self._whole = EmbreeScene(robust=True)  # no ray slips between two triangles
        self._alone = [EmbreeScene(robust=True) for _ in placements]
        for (vertices, faces), alone in zip(placements, self._alone, strict=True):
            centred = np.ascontiguousarray(vertices - self.center_m, np.float32)
            indices = np.ascontiguousarray(faces, np.int32)
            TriangleMesh(self._whole, centred, indices)
            TriangleMesh(alone, centred, indices)
        self._face_is_transparent, self._first_face = _face_table(placements, transparent)

    @property
    def num_placements(self) -> int:
        """How many meshes stand in the scene."""
        return len(self._alone)

    def cast_view(
        self, world_to_camera: Floats, intrinsics: Floats, width: int, height: int
    ) -> VisibleView:
        """Cast one ray through every pixel centre of a camera and tell what it meets."""
        rays = _Rays(world_to_camera, intrinsics, width, height, self.center_m)
        rectangles = [rays.rectangle(box) for box in self._boxes]
        number_type: type[np.unsignedinteger[Any]] = (
            np.uint8 if self.num_placements < 256 else np.uint16
        )
        instance_map: InstanceMap = np.zeros((height, width), number_type)
        depth_z = np.full((height, width), np.inf, np.float32)
        transparent_map = np.zeros((height, width), bool)

        window = _around(rectangles)
        pixels = _pixels_of(window, width)
        hits = self._whole.run(*rays.through(pixels), query="INTERSECT", output=True)
        hit = hits["geomID"] >= 0
        pixels, placement = pixels[hit], hits["geomID"][hit]
        instance_map.ravel()[pixels] = placement + 1
        depth_z.ravel()[pixels] = hits["tfar"][hit]
        if self._face_is_transparent is not None:
            faces = self._first_face[placement] + hits["primID"][hit]
            transparent_map.ravel()[pixels] = self._face_is_transparent[faces]

        visible_px = np.bincount(placement, minlength=self.num_placements).astype(np.int32)
        hidden_px = [
            self._count_hidden(index, rectangle, instance_map, rays)
            for index, rectangle in enumerate(rectangles)
        ]
        amodal_px = visible_px + np.array(hidden_px, np.int32)
        return VisibleView(instance_map, depth_z, transparent_map, visible_px, amodal_px)

    def _count_hidden(
        self,
        index: int,
        rectangle: Rectangle,
        instance_map: InstanceMap,
        rays: "_Rays",
    ) -> int:
        """Count the pixels where a placement lies behind another.

        Only there can its visible and amodal pixels differ: where the whole scene is missed, so
        is each of its parts.
        """
        part = instance_map[rectangle]
        rows, columns = np.nonzero((part != 0) & (part != index + 1))
        if not len(rows):
            return 0
        pixels = (rows + rectangle[0].start) * instance_map.shape[1] + columns + rectangle[1].start
        found = self._alone[index].run(*rays.through(pixels), query="OCCLUDED")
        return int((found >= 0).sum())


class _Rays:
    """The rays of one camera, in the centred scene."""

    def __init__(
        self, world_to_camera: Floats, intrinsics: Floats, width: int, height: int, center: Floats
    ) -> None:
        self._world_to_camera = world_to_camera.copy()
        self._world_to_camera[:3, 3] += world_to_camera[:3, :3] @ center
        self._intrinsics = intrinsics
        self._size = width, height
        self._origin = camera_position(self._world_to_camera).astype(np.float32)
        # One step right and one step down in the image, and the way to its top left corner:
        # directions with camera z = 1, so that the length along a ray is depth_z itself.
        (fx, fy), (cx, cy) = np.diag(intrinsics)[:2], intrinsics[:2, 2]
        right, down, forward = world_to_camera[:3, :3]
        corner = (0.5 - cx) / fx * right + (0.5 - cy) / fy * down + forward
        x = np.arange(width)[None, :, None] / fx * right
        y = np.arange(height)[:, None, None] / fy * down
        self._directions = (x + (y + corner)).astype(np.float32).reshape(-1, 3)

    def through(self, pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return origins and directions (N, 3) of the rays through some pixels, row-major."""
        origins = np.empty((len(pixels), 3), np.float32)
        origins[:] = self._origin
        return origins, self._directions[pixels]

    def rectangle(self, box: Floats) -> Rectangle:
        """Return rows and columns that hold every pixel in which a box (2, 3) can be seen."""
        width, height = self._size
        corners = np.stack(np.meshgrid(*box.T), axis=-1).reshape(-1, 3)
        u, v, depth_z = project(corners, self._world_to_camera, self._intrinsics).T
        if depth_z.min() <= 0:  # the camera is beside or inside the box
            return slice(0, height), slice(0, width)
        return _span(v, height), _span(u, width)


def _span(positions_px: Floats, size: int) -> slice:
    low = int(np.clip(np.floor(positions_px.min()) - 1, 0, size))
    high = int(np.clip(np.ceil(positions_px.max()) + 1, 0, size))
    return slice(low, high)


def _around(rectangles: list[Rectangle]) -> Rectangle:
    rows, columns = zip(*rectangles, strict=True)
    return _union(rows), _union(columns)


def _union(spans: tuple[slice, ...]) -> slice:
    return slice(min(span.start for span in spans), max(span.stop for span in spans))


def _pixels_of(window: Rectangle, width: int) -> Pixels:
    rows, columns = (np.arange(span.start, span.stop) for span in window)
    pixels: Pixels = (rows[:, None] * width + columns).ravel()
    return pixels


def _face_table(
    placements: Sequence[Mesh], transparent: Sequence[NDArray[np.bool_] | None] | None
) -> tuple[NDArray[np.bool_] | None, NDArray[np.int64]]:
    """Return all placements' face flags in one row (None: all opaque) and where each begins."""
    counts = [len(faces) for _, faces in placements]
    first_face = np.concatenate([[0], np.cumsum(counts)[:-1]])
    flags = transparent or [None] * len(placements)
    if all(flag is None or not flag.any() for flag in flags):
        return None, first_face
    rows = [
        np.zeros(count, bool) if flag is None else np.asarray(flag, bool)
        for flag, count in zip(flags, counts, strict=True)
    ]
    assert [len(row) for row in rows] == counts, ([len(row) for row in rows], counts)
    return np.concatenate(rows), first_face
