"""Samples a second of the loader beside WebDataset, Hugging Face datasets and plain reading.

``python benchmarks/loader.py --root WORKSPACE``. All make the same samples with the same decoding,
in one process. WebDataset reads tars of the same bytes, the others the same Parquet. Only the
loader and WebDataset shuffle, and only the loader checks what it reads (checksums of pages). Times
are processor time, so a busy machine changes them little: the best of a few rounds in which all
alternate. "Bytes" leaves the decoding out. All files are in memory by then; a disk or a network
adds time in proportion to the bytes that are read, which are printed too.
"""

import copy
import io
import itertools
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pyarrow.parquet as pq
import tyro
import webdataset

from datagen.shards import Dataset, open_dataset
from datagen.training import SceneLoader, SceneSource, StreamConfig, decode_sample
from datagen.training.data.sources import RawView
from datagen.training.objectives.structure.source import LATENT_COLUMNS, RawLatents

RENDER_COLUMNS = ("layout_id", "view_index", "kept", "rgb", "instance_map")
SHARDS_OF_RAND_25K = 3125
Decode = Callable[..., Any]
"""Of a view, the side of its images and how they get it."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare the readers."""

    root: Path
    """Workspace with renders and latents."""

    size_px: int = 128
    """Side of the conditioning images."""

    repeats: int = 5
    """Rounds; the fastest of each counts."""


def undecoded(view: RawView, *_: Any) -> Any:
    return SimpleNamespace(view=view, nbytes=1)


def read_ours(config: Compare, decode: Decode) -> Iterator[Any]:
    """The loader, one epoch in its shuffled order, without its cache."""
    source = SceneSource.open(*open_both(config.root))
    stream = StreamConfig(size_px=config.size_px)
    yield from SceneLoader([source], stream, decode, stop=len(source))


def read_plain(config: Compare, decode: Decode) -> Iterator[Any]:
    """Whole shards one after the other with pyarrow, in the order of the rows."""
    latents, renders = open_both(config.root)
    for shard in latents.manifest["shards"]:
        tables = (
            pq.read_table(dataset.folder.path / shard["path"], columns=list(columns))
            for dataset, columns in ((latents, LATENT_COLUMNS), (renders, RENDER_COLUMNS))
        )
        rows = (table.to_pylist() for table in tables)
        yield from (decode(view, config.size_px) for view in join(*rows))


def read_hugging_face(config: Compare, decode: Decode) -> Iterator[Any]:
    """Both Parquet datasets streamed side by side, dropped views filtered; not shuffled."""
    streams = [
        datasets.load_dataset(
            "parquet",
            data_files=sorted(map(str, dataset.folder.path.glob("*.parquet"))),
            columns=list(columns),
            split="train",
            streaming=True,
        )
        for dataset, columns in zip(
            open_both(config.root), (LATENT_COLUMNS, RENDER_COLUMNS), strict=True
        )
    ]
    yield from (decode(view, config.size_px) for view in join(*streams))


def read_tars(config: Compare, decode: Decode, tars: list[str]) -> Iterator[Any]:
    """WebDataset with its shuffles of shards and of 1,000 samples."""
    for item in webdataset.WebDataset(tars, shardshuffle=len(tars)).shuffle(1000):
        layout_id, view_index, num_instances = map(int, item["__key__"].split("_"))
        raw = RawLatents(
            item["__key__"], layout_id, view_index, num_instances, item["scene"], item["instances"]
        )
        yield decode(RawView(raw, item["__key__"], item["rgb"], item["map"]), config.size_px)


def open_both(root: Path) -> tuple[Dataset, Dataset]:
    return open_dataset(root / "latents"), open_dataset(root / "renders")


def join(latents: Any, renders: Any) -> Iterator[RawView]:
    """Pair rows that lie in the same order."""
    kept = (row for row in renders if row["kept"])
    for latent, render in zip(latents, kept, strict=True):
        raw = RawLatents("", *(latent[column] for column in LATENT_COLUMNS))
        assert (raw.layout_id, raw.view_index) == (render["layout_id"], render["view_index"])
        yield RawView(raw, "", render["rgb"], render["instance_map"])


def write_tars(config: Compare, folder: Path) -> list[str]:
    """Write the same bytes as a tar for each shard."""
    source = SceneSource.open(*open_both(config.root))
    paths = []
    for shard in range(int(source.shard[-1]) + 1):
        part = source.select(source.shard == shard)
        paths.append(str(folder / f"{shard:05d}.tar"))
        with tarfile.open(paths[-1], "w") as tar:
            for block in range(int(part.block[-1]) + 1):
                for view in part.read_block(block).values():
                    add_view(tar, view)
    return paths


def add_view(tar: tarfile.TarFile, view: RawView) -> None:
    raw = view.latents
    key = f"{raw.layout_id}_{raw.view_index}_{raw.num_instances}"
    fields = {
        "rgb": view.rgb,
        "map": view.instance_map,
        "scene": raw.scene_latent,
        "instances": raw.instance_latents,
    }
    for name, data in fields.items():
        info = tarfile.TarInfo(f"{key}.{name}")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


def megabytes_read(config: Compare, tars: list[str]) -> tuple[float, float]:
    """Return what an epoch reads: the columns of the Parquet shards, and the tars."""
    total = 0
    for dataset, columns in zip(
        open_both(config.root), (LATENT_COLUMNS, RENDER_COLUMNS), strict=True
    ):
        for shard in dataset.manifest["shards"]:
            metadata = pq.read_metadata(dataset.folder.path / shard["path"])
            groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
            chunks = [group.column(i) for group in groups for i in range(metadata.num_columns)]
            total += sum(c.total_compressed_size for c in chunks if c.path_in_schema in columns)
    return total / 1e6, sum(Path(tar).stat().st_size for tar in tars) / 1e6


def fastest(readers: dict[str, Callable[[], Iterator[Any]]], repeats: int) -> dict[str, float]:
    """Return the most samples per second of processor time of each."""
    best = dict.fromkeys(readers, 0.0)
    counts = set()
    for _, (name, read) in itertools.product(range(repeats), readers.items()):
        started = time.process_time()
        count = sum(1 for _ in read())
        best[name] = max(best[name], count / (time.process_time() - started))
        counts.add(count)
    assert len(counts) == 1, counts  # all read the same samples
    return best


def resume_seconds(config: Compare, num_shards: int | None) -> tuple[float, float, int]:
    """Return time and processor time from nothing to the first sample of a resumed epoch, and the
    number of views indexed.

    ``num_shards`` lists the shards that are there over and over, as a large dataset would.
    """
    latents, renders = open_both(config.root)
    if num_shards:
        shards = itertools.cycle(copy.copy(latents.manifest["shards"]))
        latents.manifest["shards"] = list(itertools.islice(shards, num_shards))
    stream = StreamConfig(size_px=config.size_px)
    state = SceneLoader([SceneSource.open(latents, renders)], stream, decode_sample).state_dict()
    started, worked = time.perf_counter(), time.process_time()
    source = SceneSource.open(latents, renders)
    loader = SceneLoader([source], stream, decode_sample)
    loader.load_state_dict({**state, "position": 5 * len(source) // 2})
    next(loader)
    return time.perf_counter() - started, time.process_time() - worked, len(source)


def main(config: Compare) -> None:
    """Print samples a second and the ratios, with decoding and without, and times to resume."""
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        tars = write_tars(config, Path(folder))
        parquet_mb, tars_mb = megabytes_read(config, tars)
        print(f"an epoch reads {parquet_mb:.0f} MB of Parquet, {tars_mb:.0f} MB of tars")
        for words, decode in (("decoded", decode_sample), ("bytes", undecoded)):
            readers: dict[str, Callable[[], Iterator[Any]]] = {
                "ours": lambda d=decode: read_ours(config, d),
                "WebDataset": lambda d=decode: read_tars(config, d, tars),
                "Hugging Face": lambda d=decode: read_hugging_face(config, d),
                "plain reading": lambda d=decode: read_plain(config, d),
            }
            rates = fastest(readers, config.repeats)
            others = ", ".join(
                f"{name} {rate:.0f} (×{rates['ours'] / rate:.2f})"
                for name, rate in rates.items()
                if name != "ours"
            )
            print(f"{words}: ours {rates['ours']:.0f} samples/s; {others}")
    for num_shards in (None, SHARDS_OF_RAND_25K):
        seconds, worked, views = resume_seconds(config, num_shards)
        print(
            f"resumed in the middle of an epoch of {views} views after {seconds:.2f} s, "
            f"{worked:.2f} s of the processor"
        )


if __name__ == "__main__":
    main(tyro.cli(Compare))
