"""Protects rendering: images show the scene at its place, with the right alpha and colours."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from datagen.blender import (
    BlenderJobFailed,
    BlenderProcess,
    PreparedPlacement,
    RenderJob,
    RenderView,
    render_views,
)
from datagen.core.cameras import intrinsics_from_fov, look_at, project
from datagen.core.frames import placement_matrix, transform_points
from datagen.views.agreement import MAX_DISAGREEMENT, disagreement
from datagen.views.cameras import bounding_sphere, scene_views
from datagen.views.visibility import RaycastingScene

pytestmark = pytest.mark.blender

SUZANNE_GREY = (0.5, 0.5, 0.5)


def job_of(placements, views, width=96, height=96, **quality):
    return RenderJob(
        placements=[PreparedPlacement(prepared_path=p, asset_to_world=m) for p, m in placements],
        views=[
            RenderView(world_to_camera=camera, intrinsics=intrinsics, seed=index)
            for index, (camera, intrinsics) in enumerate(views)
        ],
        width=width,
        height=height,
        **quality,
    )


def pixels(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)))


def at(x: float, y: float, z: float, *, yaw: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return placement_matrix(np.array([x, y, z]), yaw, scale)


@pytest.fixture(scope="module")
def spark(write_prepared) -> Path:
    return write_prepared("spark", trimesh.creation.icosphere(3, 0.01), (1, 1, 1), glow=True)


@pytest.fixture(scope="module")
def shapes(write_prepared) -> list[tuple[Path, trimesh.Trimesh]]:
    leg = trimesh.creation.box((0.03, 0.03, 0.6))
    legs = [leg.copy().apply_translation((x, y, 0.3)) for x in (-0.4, 0.4) for y in (-0.3, 0.3)]
    top = trimesh.creation.box((0.9, 0.7, 0.03)).apply_translation((0, 0, 0.6))
    meshes = {
        "table": trimesh.util.concatenate([top, *legs]),
        "ring": trimesh.creation.torus(0.3, 0.08),
        "crate": trimesh.creation.box((0.4, 0.5, 0.3)).apply_translation((0, 0, 0.15)),
    }
    return [(write_prepared(name, mesh), mesh) for name, mesh in meshes.items()]


@pytest.mark.parametrize("size", [(192, 192), (240, 130), (110, 200)])
@pytest.mark.parametrize("position", [(0.0, 0.0, 0.5), (0.3, -0.2, 0.1), (-0.4, 0.4, 0.8)])
def test_small_sphere_appears_where_project_says(position, size, spark, blender):
    intrinsics = intrinsics_from_fov(np.radians(55), *size)
    views = [
        (look_at(np.array(eye), np.array([0.0, 0.0, 0.4])), intrinsics)
        for eye in [(1.8, -2.4, 1.6), (-2.5, 0.3, -0.9), (0.0, 0.0, 3.5), (0.0, 0.0, -3.0)]
    ]

    job = job_of([(spark, at(*position))], views, *size, samples=64, denoise=False)
    images = render_views(blender, job)

    for png, view in zip(images, views, strict=True):
        alpha = pixels(png)[..., 3].astype(float)
        rows, columns = np.mgrid[: size[1], : size[0]] + 0.5
        found = (columns * alpha).sum() / alpha.sum(), (rows * alpha).sum() / alpha.sum()
        expected = project(np.array([position]), *view)[0, :2]
        np.testing.assert_allclose(found, expected, atol=0.1)  # half a pixel would be a bug


def scene_of(shapes):
    matrices = [at(-0.8, 0, 0, yaw=0.5), at(0.6, 0.2, 0.1, yaw=1), at(0.1, -0.7, 0, scale=1.3)]
    world = [
        (transform_points(matrix, mesh.vertices), mesh.faces)
        for (_, mesh), matrix in zip(shapes, matrices, strict=True)
    ]
    placements = [(path, matrix) for (path, _), matrix in zip(shapes, matrices, strict=True)]
    return world, placements


@pytest.mark.parametrize("size", [(128, 128), (160, 100)])
def test_alpha_of_the_image_agrees_with_the_rays(size, shapes, blender):
    world, placements = scene_of(shapes)
    center, radius = bounding_sphere(np.concatenate([vertices for vertices, _ in world]))
    views = scene_views(center, radius, 8, fov_rad=np.radians(40), width=size[0], height=size[1])
    geometry = RaycastingScene(world)

    images = render_views(blender, job_of(placements, views, *size))

    seen = [geometry.cast_view(*view, *size) for view in views]
    alphas = [pixels(png)[..., 3] for png in images]
    wrong = [disagreement(a, view.instance_map) for a, view in zip(alphas, seen, strict=True)]
    assert sum(wrong) <= MAX_DISAGREEMENT * 8 * size[0] * size[1]
    # The measure must be able to fail: another camera's image is not this one's.
    swapped = [
        disagreement(a, view.instance_map) for a, view in zip(alphas, seen[1:], strict=False)
    ]
    assert sum(swapped) > 10 * MAX_DISAGREEMENT * 8 * size[0] * size[1]


def test_window_around_the_objects_changes_no_pixel(shapes, blender):
    size = (150, 100)
    world, placements = scene_of(shapes)
    center, radius = bounding_sphere(np.concatenate([vertices for vertices, _ in world]))
    views = scene_views(center, radius, 6, fov_rad=0.7, width=size[0], height=size[1])
    geometry = RaycastingScene(world)
    windows = [geometry.cast_view(*view, *size).window_px for view in views]
    whole = job_of(placements, views, *size, denoise=False, samples=64)
    cut = replace(
        whole,
        views=[
            replace(view, window_px=window)
            for view, window in zip(whole.views, windows, strict=True)
        ],
    )

    pairs = zip(render_views(blender, whole), render_views(blender, cut), strict=True)

    for (whole_png, cut_png), (left, top, right, bottom) in zip(pairs, windows, strict=True):
        assert (right - left) * (bottom - top) < 0.8 * size[0] * size[1]
        whole_alpha, cut_alpha = (pixels(png)[..., 3].astype(int) for png in (whole_png, cut_png))
        assert np.abs(whole_alpha - cut_alpha).max() < 64  # other noise at the edges of objects
        assert np.abs(whole_alpha - cut_alpha).mean() < 0.5
        outside = np.ones(size[::-1], bool)
        outside[top:bottom, left:right] = False
        assert (whole_alpha[outside] == 0).all()


def test_image_outside_the_window_is_empty(shapes, blender):
    _, placements = scene_of(shapes)
    view = (look_at(np.array([0.3, -2, 1]), np.zeros(3)), intrinsics_from_fov(0.7, 90, 60))
    job = job_of(placements, [view], 90, 60, samples=1)

    window = (20, 10, 70, 35)
    cut = replace(job, views=[replace(job.views[0], window_px=window)])
    whole_alpha, cut_alpha = (
        pixels(render_views(blender, one)[0])[..., 3] > 0 for one in (job, cut)
    )

    expected = np.zeros((60, 90), bool)
    expected[10:35, 20:70] = whole_alpha[10:35, 20:70]
    assert whole_alpha.sum() > expected.sum() + 100
    # A border may be off by the pixel that Blender's float32 shares round away.
    assert (cut_alpha != expected).sum() <= 2 * (50 + 25)
    assert not cut_alpha[:9].any() and not cut_alpha[36:].any()
    assert not cut_alpha[:, :19].any() and not cut_alpha[:, 71:].any()


def test_cube_on_the_pixel_grid_has_no_soft_edge(write_prepared, blender):
    """A pixel's alpha is the share of it that is covered: nothing of its neighbours."""
    edge_m = 1.0
    box = write_prepared("grid-box", trimesh.creation.box((edge_m, edge_m, edge_m)))
    focal_px, distance_m = 104.0, 4.0  # the front face reaches 13 px from the image centre
    intrinsics = np.array([[focal_px, 0, 24], [0, focal_px, 24], [0, 0, 1]])
    camera = look_at(np.array([0.0, -distance_m - edge_m / 2, 0]), np.zeros(3))

    job = job_of([(box, np.eye(4))], [(camera, intrinsics)], 48, 48)
    alpha = pixels(render_views(blender, job)[0])[..., 3]

    expected = np.zeros((48, 48), np.uint8)
    expected[11:37, 11:37] = 255
    np.testing.assert_array_equal(alpha, expected)


def test_denoising_leaves_alpha_as_it_is(shapes, blender):
    _, placements = scene_of(shapes)
    view = (look_at(np.array([1.5, -3, 2]), np.zeros(3)), intrinsics_from_fov(0.7, 96, 96))

    (noisy,), (denoised,) = (
        render_views(blender, job_of(placements, [view], denoise=denoise))
        for denoise in (False, True)
    )

    np.testing.assert_array_equal(pixels(noisy)[..., 3], pixels(denoised)[..., 3])
    assert (pixels(noisy)[..., :3] != pixels(denoised)[..., :3]).any()


@pytest.mark.parametrize("denoise", [False, True])
def test_glow_of_a_known_radiance_has_its_srgb_value_up_to_the_edge(
    denoise, write_prepared, blender
):
    """sRGB 0.5 linear is 187.5 of 255; straight alpha: an edge pixel is not darker."""
    ball = write_prepared("glow", trimesh.creation.icosphere(4, 0.5), (0.5, 0.5, 0.5), glow=True)
    view = (look_at(np.array([0.0, -3, 0]), np.zeros(3)), intrinsics_from_fov(0.5, 96, 96))

    job = job_of([(ball, at(0, 0, 0))], [view], samples=16, denoise=denoise)
    image = pixels(render_views(blender, job)[0]).astype(int)

    edge = (image[..., 3] > 30) & (image[..., 3] < 225)
    assert edge.sum() > 50
    assert np.abs(image[48, 48, :3] - 188).max() <= 1
    np.testing.assert_array_equal(image[48, 48, 3], 255)
    # The denoiser mixes premultiplied neighbours, which shows a little after the division.
    assert np.abs(image[edge][:, :3] - 188).mean() <= (10 if denoise else 1)
    assert (image[0, 0] == 0).all()


def test_grey_object_is_neither_dark_nor_overexposed_from_any_side(write_prepared, blender):
    ball = write_prepared("grey", trimesh.creation.icosphere(4, 0.5), SUZANNE_GREY)
    white = write_prepared("white", trimesh.creation.icosphere(4, 0.5), (0.8, 0.8, 0.8))
    views = scene_views(np.zeros(3), 0.5, 16, fov_rad=0.7, width=48, height=48)

    for path, darkest, blown in [(ball, 60, 0.01), (white, 80, 0.05)]:
        for png in render_views(blender, job_of([(path, at(0, 0, 0))], views, 48, 48)):
            image = pixels(png)
            inside = image[image[..., 3] == 255][:, :3]
            assert inside.mean() > darkest
            assert (inside.min(axis=1) >= 254).mean() <= blown


def test_studio_light_is_the_same_for_a_scene_of_any_size(write_prepared, blender):
    ball = write_prepared("sized", trimesh.creation.icosphere(4, 0.5), SUZANNE_GREY)
    small, large = (
        render_views(
            blender,
            job_of(
                [(ball, at(0, 0, 0, scale=scale))],
                scene_views(np.zeros(3), 0.5 * scale, 1, fov_rad=0.7, width=48, height=48),
                48,
                48,
                samples=64,
            ),
        )[0]
        for scale in (0.1, 50.0)
    )

    difference = np.abs(pixels(small).astype(int) - pixels(large))
    assert difference.mean() < 1


def test_half_transparent_object_has_half_alpha(write_prepared, blender):
    pane = write_prepared("pane", trimesh.creation.box((1, 0.02, 1)), alpha=0.5)
    view = (look_at(np.array([0.0, -5, 0]), np.zeros(3)), intrinsics_from_fov(0.5, 96, 96))

    image = pixels(render_views(blender, job_of([(pane, at(0, 0, 0))], [view], samples=64))[0])

    # Two faces of alpha 0.5 behind each other let a quarter through.
    assert image[30:66, 30:66, 3].mean() == pytest.approx(0.75 * 255, rel=0.03)


def test_same_job_gives_the_same_bytes_after_other_scenes_and_in_a_fresh_blender(
    shapes, blender, tmp_path
):
    _, placements = scene_of(shapes)
    view = (look_at(np.array([1.5, -3, 2]), np.zeros(3)), intrinsics_from_fov(0.7, 96, 96))
    job = job_of(placements, [view, view])

    first = render_views(blender, job)
    other = (look_at(np.array([0.0, -3, 0]), np.zeros(3)), intrinsics_from_fov(0.7, 64, 48))
    render_views(blender, job_of(placements[:1], [other], 64, 48, samples=64, denoise=False))
    again = render_views(blender, job)
    with BlenderProcess(tmp_path / "blender.log", threads=1) as fresh:
        elsewhere = render_views(fresh, job)

    for other_time in (again, elsewhere):
        for png, other_png in zip(first, other_time, strict=True):
            np.testing.assert_array_equal(pixels(png), pixels(other_png))
    assert first == again == elsewhere
    assert first[0] != first[1]  # the views' seeds differ


def test_objects_dropped_from_the_cache_render_as_before(write_prepared, blender):
    first = write_prepared("many", trimesh.creation.box((0.5, 0.5, 0.5)), copies=70)
    paths = [first, *(first.with_name(f"many-{index}.blend") for index in range(1, 70))]
    view = (look_at(np.array([1.0, -2, 1]), np.zeros(3)), intrinsics_from_fov(0.7, 16, 16))
    quality = {"samples": 1, "denoise": False}

    images = [
        render_views(blender, job_of([(path, at(0, 0, 0))], [view], 16, 16, **quality))[0]
        for path in [*paths, first]
    ]

    assert len(set(images)) == 1


def test_scene_with_more_placements_than_the_cache_holds_is_rendered(write_prepared, blender):
    first = write_prepared("crowd", trimesh.creation.box((0.5, 0.5, 0.5)), copies=70)
    paths = [first, *(first.with_name(f"crowd-{index}.blend") for index in range(1, 70))]
    placements = [(path, at(index % 10, index // 10, 0)) for index, path in enumerate(paths)]
    view = (
        look_at(np.array([4.5, 3, 20]), np.array([4.5, 3, 0])),
        intrinsics_from_fov(0.7, 70, 70),
    )

    image = pixels(render_views(blender, job_of(placements, [view], 70, 70))[0])

    uv = project(np.array([matrix[:3, 3] for _, matrix in placements]), *view)[:, :2].astype(int)
    assert (image[uv[:, 1], uv[:, 0], 3] == 255).all()


def test_progress_is_reported_until_all_views_are_done(shapes, blender):
    _, placements = scene_of(shapes)
    view = (look_at(np.array([1.5, -3, 2]), np.zeros(3)), intrinsics_from_fov(0.7, 16, 16))
    told: list[int] = []

    images = render_views(
        blender, job_of(placements, [view] * 37, 16, 16, samples=1), on_view=told.append
    )

    assert len(images) == 37
    assert told == sorted(told)
    assert told[-1] == 37


def test_missing_object_fails_the_job_with_its_path(blender, tmp_path):
    view = (look_at(np.array([1.5, -3, 2]), np.zeros(3)), intrinsics_from_fov(0.7, 16, 16))

    with pytest.raises(BlenderJobFailed, match="not-there"):
        render_views(blender, job_of([(tmp_path / "not-there.blend", np.eye(4))], [view], 16, 16))


def test_off_centre_principal_point_is_refused(spark, blender):
    intrinsics = intrinsics_from_fov(0.7, 16, 16)
    intrinsics[0, 2] += 2

    with pytest.raises(ValueError, match="principal point"):
        render_views(blender, job_of([(spark, np.eye(4))], [(np.eye(4), intrinsics)], 16, 16))
