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
from datagen.core.meshes import Mesh

Rectangle = tuple[slice, slice]
"""Rows and columns of an image."""
InstanceMap = NDArray[np.unsignedinteger[Any]]
PixelIndices = NDArray[np.intp]
"""(N,), row-major: x + W·y."""

WINDOW_MARGIN_PX = 6
BOX_CORNERS = np.indices((2, 2, 2)).reshape(3, 8).T
"""(8, 3): of each axis the lower (0) or the upper (1) end."""


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

    amodal_masks: NDArray[np.uint8] | None = None
    """(N, ceil(H·W / 8)), if asked for: bit x + W·y, little bit order, says whether the pixel is
    one of ``amodal_px``."""

    normal: NDArray[np.float32] | None = None
    """(H, W, 3), unit, camera frame, if asked for: the normal of the first triangle hit, turned
    to the camera's side; 0 where there is background."""

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


class RaycastingScene:
    """The triangles of a scene, ready for rays.

    Args:
        placements: a mesh each, metres, world; the order gives the instance map's numbers.
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
        self,
        world_to_camera: Floats,
        intrinsics: Floats,
        width: int,
        height: int,
        *,
        amodal_masks: bool = False,
        normals: bool = False,
    ) -> VisibleView:
        """Cast one ray through every pixel centre of a camera and tell what it meets.

        Args:
            world_to_camera: (4, 4).
            intrinsics: (3, 3), pixels.
            width: image width, pixels.
            height: image height, pixels.
            amodal_masks: whether the view gets its ``amodal_masks``.
            normals: whether the view gets its ``normal``.
        """
        rays = _Rays(world_to_camera, intrinsics, width, height, self.center_m)
        rectangles = rays.rectangles(self._boxes)
        pixels, hits = _first_hits(self._whole, rays, _pixels_of(rectangles, width, height))
        placement = hits["geomID"]

        number_type: type[np.unsignedinteger[Any]] = (
            np.uint8 if self.num_placements < 256 else np.uint16
        )
        instance_map: InstanceMap = np.zeros((height, width), number_type)
        instance_map.ravel()[pixels] = placement + 1
        depth_z = np.full((height, width), np.inf, np.float32)
        depth_z.ravel()[pixels] = hits["tfar"]
        transparent_map = np.zeros((height, width), bool)
        if self._face_is_transparent is not None:
            faces = self._first_face[placement] + hits["primID"]
            transparent_map.ravel()[pixels] = self._face_is_transparent[faces]

        hidden = [
            self._hidden_pixels(index, rectangle, instance_map, rays)
            for index, rectangle in enumerate(rectangles)
        ]
        visible_px = np.bincount(placement, minlength=self.num_placements).astype(np.int32)
        return VisibleView(
            instance_map,
            depth_z,
            transparent_map,
            visible_px,
            amodal_px=visible_px + np.array([len(pixels) for pixels in hidden], np.int32),
            amodal_masks=_amodal_masks(instance_map, hidden) if amodal_masks else None,
            normal=rays.normal_map(pixels, hits["Ng"]) if normals else None,
        )

    def _hidden_pixels(
        self,
        index: int,
        rectangle: Rectangle,
        instance_map: InstanceMap,
        rays: "_Rays",
    ) -> PixelIndices:
        """Return the pixels where a placement lies behind another, row-major.

        Only there can its visible and amodal pixels differ: where the whole scene is missed, so
        is each of its parts.
        """
        part = instance_map[rectangle]
        rows, columns = np.nonzero((part != 0) & (part != index + 1))
        pixels: PixelIndices = (
            (rows + rectangle[0].start) * instance_map.shape[1] + columns + rectangle[1].start
        )
        if not len(pixels):
            return pixels
        found = self._alone[index].run(*rays.through(pixels), query="OCCLUDED")
        return np.asarray(pixels[found >= 0])


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
        self._of_column = np.arange(width)[:, None] / fx * right
        self._of_row = np.arange(height)[:, None] / fy * down + corner

    def through(self, pixels: PixelIndices) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return origins and directions (N, 3) of the rays through some pixels, row-major."""
        origins = np.empty((len(pixels), 3), np.float32)
        origins[:] = self._origin
        rows, columns = np.divmod(pixels, self._size[0])
        directions = self._of_column[columns] + self._of_row[rows]
        return origins, directions.astype(np.float32)

    def rectangles(self, boxes: Floats) -> list[Rectangle]:
        """Return for each box (N, 2, 3) the pixels among which are all that can show it."""
        corners = boxes[:, BOX_CORNERS, np.arange(3)].reshape(-1, 3)
        uvz = project(corners, self._world_to_camera, self._intrinsics).reshape(len(boxes), 8, 3)
        with np.errstate(invalid="ignore"):
            low, high = np.floor(uvz.min(axis=1)) - 1, np.ceil(uvz.max(axis=1)) + 1
        beside = uvz[..., 2].min(axis=1) <= 0  # the camera is beside or inside the box
        low[beside, :2], high[beside, :2] = 0, self._size
        left, top = np.clip(low[:, :2], 0, self._size).astype(int).T.tolist()
        right, bottom = np.clip(high[:, :2], 0, self._size).astype(int).T.tolist()
        rows, columns = map(slice, top, bottom), map(slice, left, right)
        return list(zip(rows, columns, strict=True))

    def normal_map(self, pixels: PixelIndices, normals: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (H, W, 3), camera frame, from world normals (N, 3) of any length and side."""
        width, height = self._size
        away = (normals * self.through(pixels)[1]).sum(axis=1) > 0
        length = np.linalg.norm(normals, axis=1) * np.where(away, -1, 1)
        unit = normals / length[:, None]
        picture = np.zeros((height, width, 3), np.float32)
        picture.reshape(-1, 3)[pixels] = unit @ self._world_to_camera[:3, :3].T
        return picture


def _first_hits(
    scene: EmbreeScene, rays: _Rays, pixels: PixelIndices
) -> tuple[PixelIndices, dict[str, NDArray[Any]]]:
    """Return the pixels whose rays meet something, and Embree's answers for them."""
    hits = scene.run(*rays.through(pixels), query="INTERSECT", output=True)
    hit = np.flatnonzero(hits["geomID"] >= 0)
    wanted = ("geomID", "primID", "tfar", "Ng")
    return pixels[hit], {name: hits[name][hit] for name in wanted}


def _pixels_of(rectangles: list[Rectangle], width: int, height: int) -> PixelIndices:
    """Return the pixels of all rectangles, each once, row-major."""
    inside = np.zeros((height, width), bool)
    for rectangle in rectangles:
        inside[rectangle] = True
    return np.flatnonzero(inside)


def _amodal_masks(instance_map: InstanceMap, hidden: list[PixelIndices]) -> NDArray[np.uint8]:
    """Return ``VisibleView.amodal_masks``: what is seen of each placement and what is hidden."""
    masks = instance_map.ravel() == np.arange(1, len(hidden) + 1)[:, None]
    for mask, pixels in zip(masks, hidden, strict=True):
        mask[pixels] = True
    return np.packbits(masks, axis=1, bitorder="little")


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
