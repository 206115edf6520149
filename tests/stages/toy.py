"""A stage whose rows are numbers, to test the machinery that all stages share."""

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
from datagen.shards.schemas import tensor_field


@dataclass(frozen=True, kw_only=True)
class Toy(UnitStage):
    """Random vectors, with units that can be made to fail, to hang or to kill their worker."""

    name: ClassVar[str] = "toy"
    folder: ClassVar[str] = "toy"
    revision: ClassVar[int] = 1
    schema = pa.schema([("layout_id", pa.int64()), tensor_field("vector", np.float32, (-1,))])

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
    folder: ClassVar[str] = "toysum"
    revision: ClassVar[int] = 1
    schema = pa.schema([("layout_id", pa.int64()), ("total", pa.float64())])
    reads: ClassVar[tuple[str, ...]] = ("toy",)

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
