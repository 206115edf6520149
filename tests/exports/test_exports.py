"""The readers of other tools open the exports and find the same data."""

import csv
import io
import json
import tarfile
from contextlib import closing
from pathlib import Path
from typing import get_args

import numpy as np
import polars
import pytest
from PIL import Image

from datagen.cli import main
from datagen.core.cameras import project
from datagen.core.frames import GL_TO_CV, transform_points
from datagen.errors import ConfigError, DatasetError
from datagen.executors.local import LocalExecutor
from datagen.exports.coco import run_lengths
from datagen.exports.export import FORMATS, FormatName
from datagen.exports.export import export as export_with
from datagen.shards import Folder, open_dataset
from tests.shards.tiny import NUM_LAYOUTS, NUM_VIEWS, SIZE_PX

NUM_KEPT = NUM_LAYOUTS * (NUM_VIEWS - 1)


@pytest.fixture(scope="module")
def exports(tiny, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exports")
    for name in FORMATS:
        assert main(["export", name, "--root", str(tiny), "--out", str(out / name)]) == 0
    return out


def export(name: FormatName, root: Folder, out: Path | str, *, instances: bool = False) -> str:
    return export_with(name, root, Folder.at(out), LocalExecutor(), instances=instances)


def test_names_of_formats_are_those_of_the_command_line():
    assert get_args(FormatName) == tuple(FORMATS)
    assert all(kind.name == name for name, kind in FORMATS.items())


def files(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_webdataset_reads_images_masks_cameras_and_latents(tiny, exports):
    import webdataset

    shards = [str(path) for path in sorted((exports / "webdataset").glob("*.tar"))]
    assert len(shards) == 2
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    keys = [sample["__key__"] for sample in samples]
    assert keys == [f"{i:06d}_{v:03d}" for i in range(NUM_LAYOUTS) for v in range(NUM_VIEWS - 1)]
    latents = list(open_dataset(tiny / "latents"))
    for sample, latent in zip(samples, latents, strict=True):
        assert sample["rgb.png"].size == (SIZE_PX, SIZE_PX)
        about = sample["json"]
        assert (about["layout_id"], about["view_index"]) == (
            latent["layout_id"],
            latent["view_index"],
        )
        for name in ("scene_latent", "instance_latents", "occupancy"):
            assert np.array_equal(sample["latents.npz"][name], latent[name])
        assert np.array_equal(about["world_to_canonical"], latent["world_to_canonical"])


def test_webdataset_without_latents_has_every_kept_view(tiny, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root/renders").symlink_to(tiny / "renders")
    export("webdataset", Folder.at(tmp_path / "root"), tmp_path / "out")
    with tarfile.open(tmp_path / "out/shard-00000.tar") as tar:
        names = tar.getnames()
    assert names[:3] == ["000000_000.rgb.png", "000000_000.instance_map.png", "000000_000.json"]
    assert len(names) == 3 * NUM_KEPT / 2


def test_coco_tools_find_the_masks(tiny, exports):
    from pycocotools.coco import COCO

    coco = COCO(exports / "coco/annotations.json")
    renders = [row for row in open_dataset(tiny / "renders") if row["kept"]]
    assert len(coco.imgs) == NUM_KEPT == len(renders)
    assert [category["name"] for category in coco.cats.values()] == ["box"]
    for image, row in zip(coco.imgs.values(), renders, strict=True):
        stored = exports / "coco/images" / image["file_name"]
        assert stored.read_bytes() == row["rgb"]
        found = coco.imgToAnns[image["id"]]
        assert [entry["area"] for entry in found] == row["visible_px"]
        (exports / "map.png").write_bytes(row["instance_map"])
        labels = np.asarray(Image.open(exports / "map.png"))
        for entry in found:
            mask = coco.annToMask(entry).astype(bool)
            assert np.array_equal(mask, labels == entry["placement"] + 1)
            rows, columns = np.nonzero(mask)
            left, top, width, height = entry["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (left + width - 1, top + height - 1) == (columns.max(), rows.max())


def test_coco_annotations_name_the_asset_of_their_placement(tiny, exports):
    content = json.loads((exports / "coco/annotations.json").read_text())
    layouts = {row["layout_id"]: row for row in open_dataset(tiny / "layouts")}
    images = {image["id"]: image for image in content["images"]}
    assert [entry["id"] for entry in content["annotations"]] == list(range(1, 2 * NUM_KEPT + 1))
    for entry in content["annotations"]:
        layout = layouts[images[entry["image_id"]]["layout_id"]]
        assert entry["asset_id"] == layout["placements"][entry["placement"]]["asset_id"]


@pytest.mark.parametrize(
    ("mask", "counts"),
    [
        ([[0, 0], [0, 0]], [4]),
        ([[1, 1], [1, 1]], [0, 4]),
        ([[1, 0], [0, 0]], [0, 1, 3]),
        ([[0, 0], [1, 1]], [1, 1, 1, 1]),
    ],
)
def test_run_lengths_are_column_by_column_and_begin_with_zeros(mask, counts):
    assert run_lengths(np.array(mask, bool)) == counts


def test_trellis_format_has_images_latents_and_metadata(tiny, exports):
    root = exports / "trellis"
    with (root / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == NUM_KEPT
    for row, latent in zip(rows, open_dataset(tiny / "latents"), strict=True):
        name = row["sha256"]
        assert (row["cond_rendered"], float(row["aesthetic_score"])) == ("True", 10.0)
        encoder = next(key.removeprefix("ss_latent_") for key in row if key.startswith("ss_latent"))
        mean = np.load(root / "ss_latents" / encoder / f"{name}.npz")["mean"]
        assert mean.dtype == np.float32 and np.array_equal(mean, latent["scene_latent"])
        voxels = np.unpackbits(latent["occupancy"][0])
        assert int(row["num_voxels"]) == voxels.sum()
        meta = json.loads((root / "renders_cond" / name / "transforms.json").read_text())
        [frame] = meta["frames"]
        assert Image.open(root / "renders" / name / frame["file_path"]).mode == "RGBA"


def read_as_trellis(root: Path, encoder: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return latent and conditioning image by id, as TRELLIS reads them.

    This is what its SparseStructureLatent and ImageConditionedMixin do, with filters and cropping.
    """
    table = polars.read_csv(root / "metadata.csv")
    table = table.filter(polars.col(f"ss_latent_{encoder}") & polars.col("cond_rendered"))
    table = table.filter(polars.col("aesthetic_score") >= 4.5)
    found = {}
    for name in table["sha256"]:
        latent = np.load(root / "ss_latents" / encoder / f"{name}.npz")["mean"]
        folder = root / "renders_cond" / name
        frame = json.loads((folder / "transforms.json").read_text())["frames"][0]
        shown = Image.open(folder / frame["file_path"])
        rows, columns = np.asarray(shown.getchannel(3)).nonzero()
        box = columns.min(), rows.min(), columns.max(), rows.max()
        center = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        half = max(box[2] - box[0], box[3] - box[1]) / 2 * 1.2
        cut = (center[0] - half, center[1] - half, center[0] + half, center[1] + half)
        cropped = np.asarray(shown.crop([int(edge) for edge in cut]).resize((32, 32)))
        found[name] = latent, cropped[..., :3] * (cropped[..., 3:] / 255.0)
    return found


def test_trellis_reads_instances_as_separate_entries(tiny, tmp_path):
    out = tmp_path / "out"
    assert export("trellis", Folder.at(tiny), out, instances=True) == f"{3 * NUM_KEPT} entries"
    found = read_as_trellis(out, "small")
    assert len(found) == 3 * NUM_KEPT
    renders = {
        (r["layout_id"], r["view_index"]): r for r in open_dataset(tiny / "renders") if r["kept"]
    }
    voxels = dict(polars.read_csv(out / "metadata.csv").select("sha256", "num_voxels").iter_rows())
    for latent in open_dataset(tiny / "latents"):
        name = f"{latent['layout_id']:06d}_{latent['view_index']:03d}"
        assert np.array_equal(found[name][0], latent["scene_latent"])
        render = renders[latent["layout_id"], latent["view_index"]]
        rgba, labels = (
            np.asarray(Image.open(io.BytesIO(render[column]))) for column in ("rgb", "instance_map")
        )
        for index in range(2):
            entry = f"{name}_instance_{index:02d}"
            assert np.array_equal(found[entry][0], latent["instance_latents"][index])
            assert voxels[entry] == np.unpackbits(latent["occupancy"][index + 1]).sum()
            alone = np.asarray(Image.open(out / "renders" / entry / "000.png"))
            assert np.array_equal(alone[labels == index + 1], rgba[labels == index + 1])
            assert not alone[labels != index + 1].any()
            same = (out / "renders" / name / "transforms.json").read_bytes()
            assert (out / "renders" / entry / "transforms.json").read_bytes() == same


def test_instances_are_refused_by_a_format_without_entries_for_them(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"--instances was given\. Expected .*\(trellis\)"):
        export("coco", Folder.at(tiny), tmp_path / "out", instances=True)


def test_export_with_instances_differs_from_one_without(tiny, tmp_path):
    export("trellis", Folder.at(tiny), tmp_path / "out")
    with pytest.raises(ConfigError, match="holds other files"):
        export("trellis", Folder.at(tiny), tmp_path / "out", instances=True)


def test_trellis_camera_sees_canonical_points_where_ours_sees_the_world(tiny, exports):
    """As TRELLIS reads it: c2w[:3, 1:3] *= -1, invert, focal length from camera_angle_x."""
    renders = [row for row in open_dataset(tiny / "renders") if row["kept"]]
    points_m = np.array([[0.0, 0.0, 0.0], [2.5, 0.5, 1.0], [1.0, -0.5, 0.3]])
    for render, latent in zip(renders, open_dataset(tiny / "latents"), strict=True):
        name = f"{render['layout_id']:06d}_{render['view_index']:03d}"
        meta = json.loads((exports / f"trellis/renders/{name}/transforms.json").read_text())
        [frame] = meta["frames"]
        world_to_camera = np.linalg.inv(np.array(frame["transform_matrix"]) @ GL_TO_CV)
        assert np.allclose(world_to_camera[:3, :3] @ world_to_camera[:3, :3].T, np.eye(3))
        focal_px = SIZE_PX / 2 / np.tan(frame["camera_angle_x"] / 2)
        intrinsics = np.array([[focal_px, 0, SIZE_PX / 2], [0, focal_px, SIZE_PX / 2], [0, 0, 1]])
        canonical = transform_points(latent["world_to_canonical"], points_m)
        assert np.abs(canonical).max() <= 0.5
        theirs = project(canonical, world_to_camera, intrinsics)
        ours = project(points_m, render["world_to_camera"], render["intrinsics"])
        np.testing.assert_allclose(theirs[:, :2], ours[:, :2], atol=1e-6)
        np.testing.assert_allclose(theirs[:, 2], meta["scale"] * ours[:, 2], rtol=1e-9)


@pytest.mark.parametrize("name", FORMATS)
def test_export_again_elsewhere_has_the_same_bytes(tiny, exports, tmp_path, name):
    export(name, Folder.at(tiny), tmp_path / "out")
    assert files(tmp_path / "out") == files(exports / name)


class StopsAfterOne(LocalExecutor):
    """An executor that is interrupted after the first shard."""

    def run(self, job, tasks):
        yield next(super().run(job, tasks))
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", FORMATS)
def test_interrupted_export_resumes_to_the_same_bytes(tiny, exports, tmp_path, name):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        export_with(name, Folder.at(tiny), Folder.at(out), StopsAfterOne())
    assert not (out / "metadata.csv").exists() and not (out / "annotations.json").exists()
    made = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert made
    export(name, Folder.at(tiny), out)
    assert files(out) == files(exports / name)
    assert all(path.stat().st_mtime_ns == time for path, time in made.items() if path.exists())


@pytest.mark.parametrize("name", ["trellis", "coco"])
def test_finished_export_is_left_unchanged(tiny, tmp_path, name):
    export(name, Folder.at(tiny), tmp_path / "out")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert export(name, Folder.at(tiny), tmp_path / "out") == "complete, nothing to do"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == made


@pytest.mark.parametrize("name", FORMATS)
def test_export_to_a_url_has_the_same_bytes(tiny, exports, tmp_path, name):
    export(name, Folder.at(f"file://{tiny}"), f"file://{tmp_path}/out")
    expected = files(exports / name)
    linked = {name for name in expected if name.startswith("renders_cond/")}  # no links there
    assert files(tmp_path / "out") == {n: expected[n] for n in expected.keys() - linked}


@pytest.mark.ray
@pytest.mark.slow
def test_export_by_ray_has_the_same_bytes(tiny, exports, tmp_path):
    from datagen.executors.ray import RayExecutor

    with closing(RayExecutor(2)) as executor:
        for name in FORMATS:
            export_with(name, Folder.at(tiny), Folder.at(tmp_path / name), executor)
            assert files(tmp_path / name) == files(exports / name)


def test_export_refuses_a_folder_with_other_files(tiny, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds other files.*another --out"):
        export("coco", Folder.at(tiny), tmp_path / "out")


def test_export_refuses_the_folder_of_another_format(tiny, tmp_path):
    export("coco", Folder.at(tiny), tmp_path / "out")
    with pytest.raises(ConfigError, match="holds other files"):
        export("trellis", Folder.at(tiny), tmp_path / "out")


def test_export_without_latents_names_the_command(tiny, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root/renders").symlink_to(tiny / "renders")
    with pytest.raises(DatasetError, match=r"latents is missing.*Run `datagen encode"):
        export("trellis", Folder.at(tmp_path / "root"), tmp_path / "out")
