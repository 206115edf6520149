"""``encode --store slat_features`` on a workspace whose images show each object in one colour."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datagen.core.cameras import intrinsics_from_fov, look_at
from datagen.engine.stage import RunOptions
from datagen.errors import ConfigError, DatasetError
from datagen.executors.job import WorkerSettings
from datagen.executors.local import LocalExecutor
from datagen.models import SLatEncoder, SLatFlowModel, save_model
from datagen.models.sparse import Sites
from datagen.shards import Folder, open_dataset
from datagen.shards.declared import LATENTS, RENDERS
from datagen.shards.scenes import SceneReader
from datagen.stages.encode import EncodeLatents
from datagen.stages.layouts import SampleLayouts
from datagen.stages.slat_features import SlatConfig
from datagen.views.passes import depth_png, png
from datagen.views.visibility import RaycastingScene
from datagen.voxels import unpack_occupancy
from tests.published import CHANNELS, dinov2_weights
from tests.shards.tiny import write
from tests.stages.shapes import write_assets
from tests.stages.tiny_networks import FLOW

NUM_VIEWS = 5
SIZE = 96
SLAT_ENCODER = {
    "resolution": 64,
    "in_channels": 3,
    "model_channels": 64,
    "latent_channels": 8,
    "num_blocks": 2,
    "num_heads": 2,
}


def color_of(index: int) -> tuple[int, int, int, int]:
    """Return the colour of placement ``index``: levels of red that can be told apart."""
    return 60 + 30 * index, 255 - 30 * index, 0, 255


def write_colored_renders(root: Path, *, depth: bool = True) -> None:
    """Write views of which every pixel has the colour of the object that it shows."""
    reader, rows = SceneReader(open_dataset(root / "assets")), []
    intrinsics = intrinsics_from_fov(0.8, SIZE, SIZE)
    for layout in open_dataset(root / "layouts"):
        scene = reader.read(layout)
        center = (scene.vertices.min(axis=0) + scene.vertices.max(axis=0)) / 2
        distance = 2.0 * float(np.ptp(scene.vertices, axis=0).max())
        for index in range(NUM_VIEWS):
            angle = 2 * np.pi * index / (NUM_VIEWS - 1)
            eye = center + distance * np.array([np.cos(angle), np.sin(angle), 0.7])
            camera = look_at(eye, center)
            view = RaycastingScene(scene.meshes).cast_view(camera, intrinsics, SIZE, SIZE)
            palette = np.array([(0, 0, 0, 0)] + [color_of(i) for i in range(len(scene.meshes))])
            steps, unit_m = depth_png(view.depth_z)
            row = dict.fromkeys(RENDERS.schema.names) | {
                "layout_id": layout["layout_id"],
                "view_index": index,
                "kept": index > 0,
                "world_to_camera": camera,
                "intrinsics": intrinsics,
                "rgb": png(palette[view.instance_map].astype(np.uint8)),
                "instance_map": png(view.instance_map),
            }
            rows.append(row | ({"depth_z": steps, "depth_unit_m": unit_m} if depth else {}))
    write(root, "render", "renders", RENDERS.schema, rows, {}, scenes_per_shard=8)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_workspace(tmp_path_factory.mktemp("slat"))


def write_workspace(root: Path, *, depth: bool = True, num_layouts: int = 1) -> Path:
    write_assets(root)
    SampleLayouts(num_layouts=num_layouts, max_objects=3).run(
        Folder.at(root), LocalExecutor(), RunOptions()
    )
    write_colored_renders(root, depth=depth)
    return root


def encode(
    root: Path,
    store: tuple[str, ...] = ("occupancy", "slat_features"),
    batch_size: int = 32,
    **fields,
):
    slat = SlatConfig(**fields)
    stage = EncodeLatents(store=store, slat=slat, views_per_scene=2, batch_size=batch_size)
    return stage.run(
        Folder.at(root), LocalExecutor(WorkerSettings(device="cpu")), RunOptions(overwrite=True)
    )


def test_row_holds_the_voxels_of_scene_and_instances_with_their_colours(root):
    for row in encode(root):
        grids = unpack_occupancy(row["occupancy"].tobytes())
        assert row["slat_counts"] == grids.sum(axis=(1, 2, 3)).tolist()
        np.testing.assert_array_equal(row["slat_coords"], np.argwhere(grids)[:, 1:])
        features = row["slat_features"].reshape(len(row["slat_coords"]), 3)
        slots = np.repeat(np.arange(len(grids)), row["slat_counts"])
        visible = row["slat_seen"] > 0
        assert visible.mean() > 0.3
        for index in range(row["num_instances"]):
            chosen = features[visible & (slots == index + 1)].astype(np.float64)
            true = np.array(color_of(index)[:3]) / 255
            np.testing.assert_allclose(np.median(chosen, axis=0), true, atol=0.05)
            # What an outline adds is black: the ratio of the channels is the object's own.
            ratio = chosen[:, 0] / chosen[:, 1]
            close = np.isclose(ratio, true[0] / true[1], rtol=0.05)
            assert close.mean() > 0.8  # beside it, another object lends a cell some colour


def test_batches_cut_anywhere_give_each_view_its_own_features(root):
    whole = list(encode(root))
    cut = list(encode(root, batch_size=1))  # each view is a chunk of its own
    assert len(whole) == len(cut) == 2
    for row, other in zip(whole, cut, strict=True):
        for name in ("slat_counts", "slat_coords", "slat_features", "slat_seen"):
            np.testing.assert_array_equal(row[name], other[name])


def test_renders_without_depth_are_refused_with_the_command_that_makes_it(tmp_path):
    root = write_workspace(tmp_path, depth=False)
    with pytest.raises(DatasetError, match="datagen render --passes depth --overwrite"):
        encode(root)


def test_dataset_without_features_is_what_it_was(root):
    latents = encode(root, store=("occupancy",), feature_encoder="not there at all")
    assert latents.schema.names == LATENTS.schema.names
    assert "feature_encoder" not in latents.fields
    latents = encode(root, feature_views=1)
    assert latents.fields["feature_views"] == 1
    assert max(row["slat_seen"].max() for row in latents) == 1


def test_dinov2_gives_its_patch_features(root, tmp_path):
    pytest.importorskip("transformers")
    torch.save(dinov2_weights(), tmp_path / "dinov2.pth")
    for row in encode(root, feature_encoder=str(tmp_path / "dinov2.pth")):
        features = row["slat_features"].reshape(len(row["slat_coords"]), -1)
        assert features.shape[1] == CHANNELS
        assert np.isfinite(features).all() and features.std(axis=0).min() > 0


def test_slat_encoder_turns_features_into_its_latents(root, tmp_path):
    torch.manual_seed(0)
    encoder = SLatEncoder(**SLAT_ENCODER).eval()
    save_model(encoder, tmp_path / "enc", SLAT_ENCODER)
    plain = list(encode(root))
    made = encode(root, slat_encoder=str(tmp_path / "enc"))
    assert made.manifest["inputs"]["slat_encoder"]
    for row, before in zip(made, plain, strict=True):
        counts = torch.tensor(row["slat_counts"])
        samples = torch.repeat_interleave(torch.arange(len(counts)), counts)
        coords = torch.from_numpy(row["slat_coords"].astype(np.int32))
        sites = Sites(torch.cat([samples[:, None].int(), coords], dim=1), len(counts))
        feats = torch.from_numpy(before["slat_features"].astype(np.float32)).reshape(-1, 3)
        with torch.inference_mode():
            expected = encoder(feats, sites)
        latents = row["slat_features"].reshape(-1, 8).astype(np.float32)
        np.testing.assert_allclose(latents, expected, atol=5e-3)


def test_slat_encoder_that_does_not_fit_is_refused(root, tmp_path):
    save_model(SLatFlowModel(**FLOW), tmp_path / "flow", FLOW)
    with pytest.raises(DatasetError, match=r"holds a SLatFlowModel\. Expected a SLatEncoder"):
        encode(root, slat_encoder=str(tmp_path / "flow"))
    wide = SLAT_ENCODER | {"in_channels": 1024}
    save_model(SLatEncoder(**wide), tmp_path / "wide", wide)
    with pytest.raises(ConfigError, match=r"takes features of 1024 channels, .* gives 3"):
        encode(root, slat_encoder=str(tmp_path / "wide"))
