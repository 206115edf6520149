"""Bytes and time to read one view from a shard as large as the paper's.

``python benchmarks/one_view.py``. Beside our row groups it measures pyarrow's default, and the
check of the whole shard as ``datagen verify`` does it.
"""

import io
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.core.seeding import rng_for
from datagen.shards import Folder, Identity, Output, open_dataset
from datagen.shards.tensors import tensor_field
from datagen.verify.shards import check_folder

SCENES, VIEWS = 8, 150
IMAGE_BYTES = 230_000
"""Of a PNG of 512 × 512 pixels, RGBA."""
SCHEMA = pa.schema(
    [
        ("layout_id", pa.int64()),
        ("view_index", pa.int32()),
        tensor_field("world_to_camera", np.float64, (4, 4)),
        ("rgb", pa.binary()),
    ]
)
FILTERS = [("layout_id", "=", 5), ("view_index", "=", 77)]


class CountingFile(io.FileIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def read_one(path: Path) -> tuple[int, float]:
    """Return bytes and seconds, the best of five, to read one view."""
    seconds = []
    for _ in range(5):
        file = CountingFile(path)
        started = time.perf_counter()
        table = pq.read_table(file, filters=FILTERS, use_threads=False)
        seconds.append(time.perf_counter() - started)
        assert table.num_rows == 1
    return file.count, min(seconds)


def main() -> None:
    rng = rng_for(0, "benchmark")
    rows = [
        {
            "layout_id": layout,
            "view_index": view,
            "world_to_camera": np.eye(4),
            "rgb": rng.bytes(IMAGE_BYTES),
        }
        for layout in range(SCENES)
        for view in range(VIEWS)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Folder.at(name)
        output = Output(folder / "ours", Identity("benchmark", 1, {}, {}), SCHEMA, SCENES)
        output.write_shard(0, rows, [])
        output.seal({"counts": {}})
        ours = folder.path / "ours/shard-00000.parquet"
        theirs = folder.path / "default.parquet"
        pq.write_table(pq.read_table(ours), theirs, compression="zstd")
        del rows
        print(f"shard: {ours.stat().st_size / 1e6:.0f} MB, {SCENES * VIEWS} views")
        results = {"ours": read_one(ours), "pyarrow's row groups": read_one(theirs)}
        for label, (count, seconds) in results.items():
            print(f"{label}: {count / 1e6:.2f} MB read, {1e3 * seconds:.1f} ms")
        ratio = results["pyarrow's row groups"][0] / results["ours"][0]
        print(f"bytes, pyarrow's over ours: {ratio:.1f}")
        started = time.perf_counter()
        check = check_folder(folder / "ours", "ours", threads=1)
        seconds = time.perf_counter() - started
        assert not check.findings and len(open_dataset(folder / "ours")) == SCENES * VIEWS
        print(f"verify: {ours.stat().st_size / 1e6 / seconds:.0f} MB/s, one thread")


if __name__ == "__main__":
    main()
