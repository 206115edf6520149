"""``encode`` on a workspace of known scenes and cameras."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from datagen.core.cameras import intrinsics_from_fov, look_at
from datagen.engine.plan import plan_stage
from datagen.engine.stage import RunOptions
from datagen.errors import ConfigError, DatasetError, RowError, StageError
from datagen.executors.job import WorkerSettings
from datagen.executors.local import LocalExecutor
from datagen.models import SparseStructureEncoder, save_model
from datagen.models.dinov2 import load_dinov2
from datagen.shards import Folder, Row, open_dataset
from datagen.shards.declared import RENDERS
from datagen.shards.scenes import SceneReader
from datagen.stages.encode import EncodeLatents, check_instances, check_stored
from datagen.stages.layouts import SampleLayouts
from datagen.training.data.image_tokens import view_tokens
from datagen.views.passes import decode_view
from datagen.voxels import (
    unpack_occupancy,
    view_centric_transform,
    voxelize_views,
)
from tests.published import dinov2_weights
from tests.shards.tiny import png, write
from tests.stages.shapes import write_assets

NUM_VIEWS = 6
PUBLISHED_KIND = {
    "in_channels": 1,
    "latent_channels": 8,
    "num_res_blocks": 1,
    "num_res_blocks_middle": 1,
    "channels": [4, 8, 16],
}
"""Arguments of a small encoder with TRELLIS's architecture."""
DROPPED = 2


@pytest.fixture
def root(tmp_path) -> Path:
    write_assets(tmp_path)
    SampleLayouts(num_layouts=2, max_objects=4).run(
        Folder.at(tmp_path), LocalExecutor(), RunOptions()
    )
    write_renders(tmp_path)
    return tmp_path


def write_renders(root: Path, images: Callable[[int], Row] = lambda index: {}) -> None:
    """Write views. ``encode`` needs only their cameras; ``images`` adds columns by view index."""
    rows = []
    for layout_id in (0, 1):
        for index in range(NUM_VIEWS):
            eye = np.array([6 * np.cos(index), 6 * np.sin(index), 1.0 + index])
            rows.append(
                dict.fromkeys(RENDERS.schema.names)
                | {
                    "layout_id": layout_id,
                    "view_index": index,
                    "kept": index != DROPPED,
                    "world_to_camera": look_at(eye, np.zeros(3)),
                    "intrinsics": intrinsics_from_fov(0.7, 64, 64),
                    **images(index),
                }
            )
    write(root, "render", "renders", RENDERS.schema, rows, {}, scenes_per_shard=8)


def encode(root: Path, **fields):
    return list(run(root, **fields))


def run(root: Path, **fields):
    options = RunOptions(overwrite=True)
    return EncodeLatents(**fields).run(
        Folder.at(root), LocalExecutor(WorkerSettings(device="cpu")), options
    )


@pytest.mark.parametrize("batch_size", [32, 1])
def test_every_kept_view_has_its_scenes_voxels_in_its_own_frame(root, batch_size):
    rows = encode(root, batch_size=batch_size)  # with 1, each view is a chunk
    kept = [index for index in range(NUM_VIEWS) if index != DROPPED]
    assert [(row["layout_id"], row["view_index"]) for row in rows] == [
        (layout, index) for layout in (0, 1) for index in kept
    ]
    reader = SceneReader(open_dataset(root / "assets"))
    layouts = {row["layout_id"]: row for row in open_dataset(root / "layouts")}
    cameras = {
        (row["layout_id"], row["view_index"]): row["world_to_camera"]
        for row in open_dataset(root / "renders")
    }
    for row in rows:
        scene = reader.read(layouts[row["layout_id"]])
        camera = cameras[row["layout_id"], row["view_index"]]
        expected = view_centric_transform(camera, scene.vertices)
        np.testing.assert_array_equal(row["world_to_canonical"], expected)
        grids = unpack_occupancy(row["occupancy"].tobytes())
        np.testing.assert_array_equal(grids, voxelize_views(scene.meshes, expected[None])[0])
        assert row["num_instances"] == len(scene.meshes) == len(row["instance_latents"])


def test_batches_cut_anywhere_give_the_same_latents(root):
    whole = encode(root, batch_size=64)
    for row, other in zip(whole, encode(root, batch_size=3), strict=True):
        for name in ("scene_latent", "instance_latents"):
            np.testing.assert_allclose(row[name], other[name], atol=2e-3)  # float16's last bit
        for name in ("layout_id", "view_index", "world_to_canonical", "occupancy"):
            np.testing.assert_array_equal(row[name], other[name])


@pytest.mark.parametrize("first", [0, 2])
def test_instance_without_a_voxel_is_named_with_its_own_view(first):
    views = [{"view_index": index} for index in (3, 5, 6, 9)]
    occupancy = np.ones((2, 3, 4, 4, 4), bool)
    occupancy[1, 2] = False
    expected = f"layout 7, view {views[first + 1]['view_index']}: placement 1 has no voxel"
    with pytest.raises(RowError, match=expected):
        check_instances(7, views[first:], occupancy)


def test_latents_are_the_published_encoders_means_of_the_stored_voxels(root, tmp_path):
    torch.manual_seed(0)
    encoder = SparseStructureEncoder(**PUBLISHED_KIND)
    save_model(encoder, tmp_path / "ss_enc", PUBLISHED_KIND)
    row = encode(root, encoder=str(tmp_path / "ss_enc"))[3]
    grids = torch.from_numpy(unpack_occupancy(row["occupancy"].tobytes())).float()
    with torch.inference_mode():
        means = encoder(grids[:, None]).numpy()
    np.testing.assert_allclose(row["scene_latent"], means[0], atol=2e-3)
    np.testing.assert_allclose(row["instance_latents"], means[1:], atol=2e-3)


def test_store_leaves_out_what_is_not_asked_for(root):
    voxels_alone = encode(root, store=("occupancy",), encoder="not/there/at/all")
    assert all(row["scene_latent"] is None for row in voxels_alone)
    latents_alone = encode(root, store=("latents",))
    assert all(row["occupancy"] is None for row in latents_alone)
    assert len(voxels_alone) == len(latents_alone) == 2 * (NUM_VIEWS - 1)


def test_views_per_scene_draws_views_that_depend_on_seed_and_scene_alone(root):
    def chosen(**fields):
        return [
            (row["layout_id"], row["view_index"])
            for row in encode(root, store=("occupancy",), views_per_scene=2, **fields)
        ]

    first = chosen()
    assert [layout for layout, _ in first] == [0, 0, 1, 1]
    assert all(index != DROPPED for _, index in first)
    assert first == chosen(batch_size=1)
    others = [chosen(seed=seed) for seed in range(1, 6)]
    assert any(other != first for other in others)
    views = [[index for _, index in drawn] for drawn in (first, *others)]
    assert any(drawn[:2] != drawn[2:] for drawn in views), "scenes draw the same views"
    assert len(encode(root, store=("occupancy",), views_per_scene=99)) == 2 * (NUM_VIEWS - 1)


def test_solid_fills_closed_instances(root):
    for hollow, filled in zip(encode(root), encode(root, solid=True), strict=True):
        before = unpack_occupancy(hollow["occupancy"].tobytes())
        after = unpack_occupancy(filled["occupancy"].tobytes())
        assert (after >= before).all()
        assert after.sum() > before.sum()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"store": ("latents", "normals")}, "Expected one or more of latents occupancy"),
        ({"store": ()}, "Expected one or more of latents occupancy"),
        ({"views_per_scene": 0}, "views_per_scene must be at least 1, got 0"),
    ],
)
def test_fields_that_cannot_work_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        EncodeLatents(**fields)


def test_encoder_of_another_latent_shape_is_refused(root, tmp_path):
    arguments = PUBLISHED_KIND | {"latent_channels": 4, "channels": [4, 8]}
    save_model(SparseStructureEncoder(**arguments), tmp_path / "ss_enc", arguments)
    with pytest.raises(StageError, match=r"latents have shape \(4, 32, 32, 32\). Expected"):
        run(root, encoder=str(tmp_path / "ss_enc"))


def test_encoder_with_a_missing_key_is_refused_by_the_keys_name(root, tmp_path):
    encoder = SparseStructureEncoder(**PUBLISHED_KIND)
    save_model(encoder, tmp_path / "ss_enc", PUBLISHED_KIND)
    tensors = {key: value.contiguous() for key, value in encoder.state_dict().items()}
    del tensors["input_layer.bias"]
    save_file(tensors, tmp_path / "ss_enc.safetensors")
    with pytest.raises(DatasetError, match=r"1 missing \(input_layer.bias\)"):
        run(root, encoder=str(tmp_path / "ss_enc"))


@pytest.mark.parametrize("damage", ["nan", "empty"])
def test_bad_mesh_fails_its_scenes_with_a_reason_and_no_others(root, damage):
    layouts = list(open_dataset(root / "layouts"))
    used = [{p["asset_id"] for p in row["placements"]} for row in layouts]
    if used[0] == used[1]:
        pytest.skip("both scenes use the same shapes")
    name = sorted(used[0] ^ used[1])[0]
    path = root / "assets" / "geometry" / f"{name}.npz"
    arrays = dict(np.load(path))
    if damage == "nan":
        arrays["vertices"][0] = np.nan
    else:
        arrays["faces"] = arrays["faces"][:0]
    np.savez(path, **arrays)
    stage = EncodeLatents(store=("occupancy",))
    options = RunOptions(max_failed_fraction=1.0)
    dataset = stage.run(Folder.at(root), LocalExecutor(), options)
    [failed] = dataset.manifest["failed"]
    assert name in used[failed["unit"]]
    assert ("finite" if damage == "nan" else "no voxel") in failed["reason"]
    assert {row["layout_id"] for row in dataset} == {1 - failed["unit"]}


def test_manifest_holds_the_encoders_weights(root):
    inputs = run(root).manifest["inputs"]
    without = run(root, store=("occupancy",)).manifest["inputs"]
    assert "encoder" in inputs
    assert "encoder" not in without
    assert json.dumps(inputs)


def test_verb_that_needs_what_was_not_stored_names_the_command(root):
    latents = run(root, store=("latents",))
    check_stored(latents, "latents", "train")
    with pytest.raises(DatasetError, match="--store latents occupancy --overwrite"):
        check_stored(latents, "occupancy", "evaluate")


def test_image_tokens_are_stored_a_file_a_kept_view_and_known_by_the_encoders_weights(
    root, tmp_path
):
    pytest.importorskip("transformers")
    weights = tmp_path / "dinov2.pth"
    torch.save(dinov2_weights(), weights)
    instance_map = np.zeros((20, 20), np.uint8)
    instance_map[5:15, 5:15] = 1
    shutil.rmtree(root / "renders")

    def images(index: int) -> Row:
        rgba = np.full((20, 20, 4), 255, np.uint8)
        rgba[..., index % 3] = 40 * index
        return {"rgb": png(rgba), "instance_map": png(instance_map)}

    write_renders(root, images)
    fields = {"store": ("latents", "image_tokens"), "image_encoder": str(weights)}
    dataset = run(root, **fields)
    encoder = load_dinov2(str(weights), "cpu")
    assert dataset.manifest["inputs"]["image_encoder"] == encoder.fingerprint()
    assert "image_encoder" not in dataset.fields
    rows = list(dataset)
    names = {f"{row['layout_id']}_{row['view_index']}.npy" for row in rows}
    assert names == {path.name for path in (root / "latents" / "image_tokens").iterdir()}
    for row in rows:
        tokens = np.load(
            root / "latents" / "image_tokens" / f"{row['layout_id']}_{row['view_index']}.npy"
        )
        assert tokens.dtype == np.float16
        shape = (row["num_instances"] + 1, encoder.num_tokens, encoder.channels)
        assert tokens.shape == shape
        view = decode_view(images(row["view_index"]))
        own = view_tokens(encoder, *view, row["num_instances"])
        np.testing.assert_allclose(tokens, own, atol=2e-3)
        # Only instance 0 is visible: its image is the scene's.
        np.testing.assert_array_equal(tokens[0], tokens[1])
        assert (tokens[0] != tokens[2]).any()

    stage = EncodeLatents(**fields)
    planned = plan_stage(
        stage, Folder.at(root), num_workers=1, settings=WorkerSettings(device="cpu"), num_samples=1
    )
    of_last = (root / "latents" / "image_tokens").glob("1_*.npy")
    assert planned.bytes_per_unit > sum(path.stat().st_size for path in of_last)

    tensors = dinov2_weights()
    tensors["cls_token"][0, 0, 0] += 1
    torch.save(tensors, weights)
    with pytest.raises(DatasetError, match="other image_encoder"):
        EncodeLatents(**fields).run(
            Folder.at(root), LocalExecutor(WorkerSettings(device="cpu")), RunOptions()
        )
