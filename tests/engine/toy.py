"""A stage whose rows are numbers, to test what all stages share."""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from datagen.core.fields import how
from datagen.core.seeding import rng_for
from datagen.engine.stage import Inputs
from datagen.engine.units import Process, UnitStage, WorkerContext
from datagen.shards import Row
from datagen.shards.declared import LAYOUT_ID
from datagen.shards.tables import Table, column, tensor_column

TOY = Table(
    folder="toy",
    verb="play",
    row="a random vector",
    columns=(LAYOUT_ID, tensor_column("vector", np.float32, (-1,), "Random numbers.")),
)
TOYSUM = Table(
    folder="toysum",
    verb="add",
    row="a toy",
    columns=(LAYOUT_ID, column("total", pa.float64(), "Sum of the toy's numbers.")),
)


@dataclass(frozen=True, kw_only=True)
class Toy(UnitStage):
    """Random vectors, with units that can be made to fail, to hang or to kill their worker."""

    name: ClassVar[str] = "toy"
    table: ClassVar[Table] = TOY
    revision: ClassVar[int] = 1

    count: int = 10
    length: int = 4
    seed: int = 0
    scenes_per_shard: int = 3
    fail_on: tuple[int, ...] = how(())
    die_on: tuple[int, ...] = how(())
    slow_s: float = how(0.0)
    journal: Path | None = how(None)

    def units(self, inputs: Inputs) -> Sequence[int]:
        return range(self.count)

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        def process(unit: int) -> list[Row]:
            if self.journal is not None:
                with self.journal.open("a") as file:
                    file.write(f"{unit}\n")
            if unit in self.fail_on:
                raise ValueError(f"unit {unit} cannot be made")
            if unit in self.die_on:
                os.kill(os.getpid(), 9)
            time.sleep(self.slow_s)
            vector = rng_for(self.seed, self.name, unit).random(self.length)
            return [{"layout_id": unit, "vector": vector}] * (1 + unit % 2)

        yield process


@dataclass(frozen=True, kw_only=True)
class ToySum(UnitStage):
    """Reads the toy's rows."""

    name: ClassVar[str] = "toysum"
    table: ClassVar[Table] = TOYSUM
    revision: ClassVar[int] = 1
    reads: ClassVar[tuple[Table, ...]] = (TOY,)

    def units(self, inputs: Inputs) -> Sequence[int]:
        return inputs["toy"].units()

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        yield lambda unit: [
            {
                "layout_id": unit,
                "total": sum(float(row["vector"].sum()) for row in inputs["toy"].rows_of(unit)),
            }
        ]


def shard_hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.parquet"))
    }
