"""Random draws of a scene differ from other scenes', and do not depend on other scenes."""

import numpy as np
import pytest
import torch

from datagen.engine.stage import RunOptions
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder, open_dataset
from datagen.shards.declared import RENDERS
from datagen.shards.scenes import SceneMeshes
from datagen.stages.infer import InferScenes
from datagen.stages.layouts import SampleLayouts
from datagen.stages.render import RenderViews
from datagen.stages.slat_features import SlatConfig, SlatFeatures
from datagen.views.passes import depth_png
from tests.shards.tiny import (
    BOX,
    FACES,
    NUM_LAYOUTS,
    SIZE_PX,
    render_rows,
    write,
)
from tests.stages.shapes import write_assets

SCENE = SceneMeshes([(BOX, FACES)], [None], [], [])
"""A scene of fixed vertices, so that scenes differ only in their id."""
SEEDS = range(8)


def cameras(layout_id: int, **fields) -> np.ndarray:
    views = RenderViews(num_views=5, **fields).cameras(layout_id, SCENE)
    return np.array([world_to_camera for world_to_camera, _ in views])


def test_scenes_of_one_shape_are_seen_by_different_cameras():
    first, second = cameras(0), cameras(1)

    np.testing.assert_array_equal(cameras(0), first)
    assert not np.isclose(first, second).all(axis=(1, 2)).any()
    assert not np.isclose(first, cameras(0, seed=1)).all(axis=(1, 2)).any()


@pytest.mark.parametrize("light", ["random", "hdri"])
def test_scenes_of_one_shape_are_lit_differently(light, tmp_path):
    (tmp_path / "sky.hdr").write_bytes(b"sky")
    folder = tmp_path if light == "hdri" else None

    def lit(layout_id: int, seed: int = 0):
        stage = RenderViews(seed=seed, light=light, hdri_folder=folder)
        return stage.render_job(layout_id, SCENE, [], [], []).light

    assert lit(0) == lit(0)
    assert lit(0) != lit(1)
    assert lit(0) != lit(0, seed=1)


def test_layouts_differ_and_more_of_them_change_none(tmp_path):
    made = {}
    for count in (3, 6):
        root = tmp_path / str(count)
        write_assets(root)
        stage = SampleLayouts(num_layouts=count, min_objects=3, max_objects=3)
        made[count] = list(stage.run(Folder.at(root), LocalExecutor(), RunOptions()))
    sizes = [tuple(p["scale"] for p in row["placements"]) for row in made[6]]
    assert len(set(sizes)) == 6
    assert made[6][:3] == made[3]


def test_views_to_sample_are_drawn_for_each_scene(tiny):
    inputs = {name: open_dataset(tiny / name) for name in ("latents", "renders")}

    def drawn(seed: int) -> list[int]:
        stage = InferScenes(views_per_scene=1, seed=seed)
        return [stage.views(inputs, i)[0][1]["view_index"] for i in range(NUM_LAYOUTS)]

    assert drawn(0) == drawn(0)
    assert any(len(set(drawn(seed))) > 1 for seed in SEEDS), "every scene draws the same view"
    assert len({tuple(drawn(seed)) for seed in SEEDS}) > 1


def test_noise_is_another_for_every_view():
    views = [(layout_id, view) for layout_id in range(20) for view in range(20)]
    assert len({InferScenes().seed_of(*view) for view in views}) == len(views)


def test_views_that_features_come_from_are_drawn_for_each_scene(tmp_path):
    depth, unit_m = depth_png(np.full((SIZE_PX, SIZE_PX), 2.0, np.float32))
    layouts = [{"layout_id": layout_id, "placements": [None, None]} for layout_id in (0, 1)]
    rows = [row | {"depth_z": depth, "depth_unit_m": unit_m} for row in render_rows(layouts)]
    renders = write(tmp_path, "render", "renders", RENDERS.schema, rows, {})

    def drawn(seed: int, layout_id: int) -> list[np.ndarray]:
        features = SlatFeatures(SlatConfig(feature_views=1), seed, torch.device("cpu"))
        return [v.surface.world_to_camera for v in features.views_of(renders, layout_id)]

    np.testing.assert_array_equal(drawn(0, 0), drawn(0, 0))
    assert any(not np.array_equal(drawn(seed, 0), drawn(seed, 1)) for seed in SEEDS)
