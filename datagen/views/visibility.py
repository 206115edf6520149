"""Visibility by ray casting, one ray per pixel, before anything is rendered.

Embree casts the rays through pixel centres in float32. Geometry and cameras are moved so that the
centre of the scene's bounding box is the origin, where float32 is most precise.
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
"""Range of rows and range of columns of an image."""
InstanceMap = NDArray[np.unsignedinteger[Any]]
PixelIndices = NDArray[np.intp]
"""(N,): indices x + W·y."""

WINDOW_MARGIN_PX = 6
BOX_CORNERS = np.indices((2, 2, 2)).reshape(3, 8).T
"""(8, 3): for each corner and axis, whether it is at the lower (0) or the upper (1) end."""


@dataclass(frozen=True)
class VisibleView:
    """The ray-cast view of one camera."""

    instance_map: InstanceMap
    """(H, W), uint8, or uint16 above 255 placements: 0 background, i + 1 placement i."""

    depth_z: NDArray[np.float32]
    """(H, W), metres, planar depth; inf for background."""

    transparent_map: NDArray[np.bool_]
    """(H, W): whether the first hit's material has alpha below 1."""

    visible_px: NDArray[np.int32]
    """(N,): number of pixels whose first hit is placement i."""

    amodal_px: NDArray[np.int32]
    """(N,): number of pixels that placement i would have alone in the scene."""

    amodal_masks: NDArray[np.uint8] | None = None
    """(N, ceil(H·W / 8)) or None: bit x + W·y, little bit order, is set if the pixel is one of
    ``amodal_px``."""

    normal: NDArray[np.float32] | None = None
    """(H, W, 3), unit, camera frame, or None: normal of the first triangle hit, on the side that
    faces the camera; 0 for background."""

    @property
    def window_px(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom (exclusive), pixels, of the visible objects, with a margin.

        The margin contains partly covered pixels, and some background in which the check of
        ``views.agreement`` can find rendered objects that no ray hit.
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
    """The triangles of a scene, ready for ray casting.

    Args:
        placements: one mesh per placement, metres, z_up world, in the order of the instance map.
        transparent: for each placement, (F,) bool: the faces whose material has alpha below 1.
            None, as a whole or for a placement: all faces are opaque.
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
        """Number of placements in the scene."""
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
        """Return what a camera sees, by one ray through each pixel centre.

        Args:
            world_to_camera: (4, 4), z_up world to cv camera.
            intrinsics: (3, 3), pixels.
            width: image width, pixels.
            height: image height, pixels.
            amodal_masks: whether to compute ``amodal_masks``.
            normals: whether to compute ``normal``.
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
        """Return the pixels where a placement is behind another one, in ascending order.

        Only pixels of other placements are tested: a ray that misses the whole scene also misses
        each of its placements.
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
    """The rays of one camera in the centred scene."""

    def __init__(
        self, world_to_camera: Floats, intrinsics: Floats, width: int, height: int, center: Floats
    ) -> None:
        self._world_to_camera = world_to_camera.copy()
        self._world_to_camera[:3, 3] += world_to_camera[:3, :3] @ center
        self._intrinsics = intrinsics
        self._size = width, height
        self._origin = camera_position(self._world_to_camera).astype(np.float32)
        # Directions are sums of a part for the column and one for the row. Their camera z is 1,
        # so that the parameter along a ray is depth_z.
        (fx, fy), (cx, cy) = np.diag(intrinsics)[:2], intrinsics[:2, 2]
        right, down, forward = world_to_camera[:3, :3]
        corner = (0.5 - cx) / fx * right + (0.5 - cy) / fy * down + forward
        self._of_column = np.arange(width)[:, None] / fx * right
        self._of_row = np.arange(height)[:, None] / fy * down + corner

    def through(self, pixels: PixelIndices) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the origins and directions (N, 3) of the rays through some pixels."""
        origins = np.empty((len(pixels), 3), np.float32)
        origins[:] = self._origin
        rows, columns = np.divmod(pixels, self._size[0])
        directions = self._of_column[columns] + self._of_row[rows]
        return origins, directions.astype(np.float32)

    def rectangles(self, boxes: Floats) -> list[Rectangle]:
        """Return for each box (N, 2, 3) a rectangle with all pixels that can show it."""
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
        """Return an image (H, W, 3) of unit normals, camera frame, that face the camera.

        Args:
            pixels: the N pixels with a normal.
            normals: (N, 3), world, of any length, on either side.
        """
        width, height = self._size
        away = (normals * self.through(pixels)[1]).sum(axis=1) > 0
        length = np.linalg.norm(normals, axis=1) * np.where(away, -1, 1)
        unit = normals / length[:, None]
        image = np.zeros((height, width, 3), np.float32)
        image.reshape(-1, 3)[pixels] = unit @ self._world_to_camera[:3, :3].T
        return image


def _first_hits(
    scene: EmbreeScene, rays: _Rays, pixels: PixelIndices
) -> tuple[PixelIndices, dict[str, NDArray[Any]]]:
    """Return the pixels whose rays hit a triangle, and Embree's results for them."""
    hits = scene.run(*rays.through(pixels), query="INTERSECT", output=True)
    hit = np.flatnonzero(hits["geomID"] >= 0)
    wanted = ("geomID", "primID", "tfar", "Ng")
    return pixels[hit], {name: hits[name][hit] for name in wanted}


def _pixels_of(rectangles: list[Rectangle], width: int, height: int) -> PixelIndices:
    """Return the pixels of all rectangles, each once, in ascending order."""
    inside = np.zeros((height, width), bool)
    for rectangle in rectangles:
        inside[rectangle] = True
    return np.flatnonzero(inside)


def _amodal_masks(instance_map: InstanceMap, hidden: list[PixelIndices]) -> NDArray[np.uint8]:
    """Return ``VisibleView.amodal_masks``: visible and hidden pixels of each placement."""
    masks = instance_map.ravel() == np.arange(1, len(hidden) + 1)[:, None]
    for mask, pixels in zip(masks, hidden, strict=True):
        mask[pixels] = True
    return np.packbits(masks, axis=1, bitorder="little")


def _face_table(
    placements: Sequence[Mesh], transparent: Sequence[NDArray[np.bool_] | None] | None
) -> tuple[NDArray[np.bool_] | None, NDArray[np.int64]]:
    """Return the face flags of all placements in one array, and the index of each one's first.

    The flags are None if all faces are opaque.
    """
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
