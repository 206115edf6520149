"""How a stage's dataset is declared: every column once, with type, unit and one sentence.

Schemas, cards, Croissant files, docs/data.md and ``datagen verify`` are made of these
declarations. Units and sentences are not written into Parquet files.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike

from datagen.shards.schemas import tensor_field


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    field: pa.Field
    """Name, type, and for a tensor dtype and shape in the metadata."""
    meaning: str
    """One sentence."""
    unit: str = ""
    """SI, or a word such as "pixels"; "" where there is none."""

    @property
    def name(self) -> str:
        return str(self.field.name)


@dataclass(frozen=True)
class Table:
    """The dataset of a stage: what it is called, and what its rows hold."""

    folder: str
    """Its folder in a workspace."""
    verb: str
    """The command that makes it: ``datagen VERB``."""
    row: str
    """What a row is, in words; "" where the dataset has no rows."""
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([column.field for column in self.columns])


def column(name: str, kind: pa.DataType, meaning: str, *, unit: str = "") -> Column:
    """Declare a column.

    Args:
        name: of the column; with its unit as suffix where it has one (``radius_m``).
        kind: Arrow type.
        meaning: one sentence, for people who read the data.
        unit: of its numbers.
    """
    return Column(pa.field(name, kind), meaning, unit)


def tensor_column(
    name: str, dtype: DTypeLike, shape: tuple[int, ...], meaning: str, *, unit: str = ""
) -> Column:
    """Declare a column of arrays: raw bytes, little-endian, C order.

    Args:
        name: of the column.
        dtype: of the array.
        shape: of the array; -1 for an axis whose length differs by row.
        meaning: one sentence.
        unit: of its numbers.
    """
    return Column(tensor_field(name, np.dtype(dtype), shape), meaning, unit)
