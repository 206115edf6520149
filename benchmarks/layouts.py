"""Time ``datagen layouts`` as a whole command, alone and on Ray, and compare the shards.

``python benchmarks/layouts.py [--assets FOLDER]``. Without assets it makes 48 procedural ones
first, outside the time. Times are wall seconds, with stacking, Parquet, and the start-up of Python
and Ray.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Measure the command."""

    assets: Path | None = None
    """An assets dataset to place."""

    num_layouts: int = 25_000
    """Scenes."""

    workers: tuple[int, ...] = (1, 2)
    """Numbers of workers; 1 is this process, more is Ray."""


def run_datagen(*arguments: str) -> float:
    """Return the wall seconds of one command."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "datagen.cli", *arguments], check=True)
    return time.monotonic() - started


def main(config: Measure) -> None:
    with tempfile.TemporaryDirectory(prefix="datagen-benchmark-") as scratch:
        assets = config.assets
        if assets is None:
            run_datagen("assets", "--root", scratch)
            assets = Path(scratch) / "assets"
        shards = {}
        for workers in config.workers:
            root = Path(scratch) / f"with-{workers}"
            root.mkdir()
            (root / "assets").symlink_to(assets.absolute())
            flags = ["--n", str(config.num_layouts), "--workers", str(workers)]
            seconds = run_datagen("layouts", *flags, "--root", str(root))
            print(f"{config.num_layouts} layouts, --workers {workers}: {seconds:.1f} s")
            shards[workers] = [path.read_bytes() for path in sorted(root.glob("layouts/shard-*"))]
        same = all(made == shards[config.workers[0]] for made in shards.values())
        print(f"shards of all runs are {'the same bytes' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main(tyro.cli(Measure))
