"""How a stage's dataset is declared: every column once, with type, unit and one sentence.

Schemas, cards, Croissant files, docs/data.md and ``datagen verify`` are made of these
declarations. Units and sentences are not written into Parquet files.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike

from datagen.shards.tensors import tensor_field


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    field: pa.Field
    """Name, type, and for a tensor dtype and shape in the metadata."""
    meaning: str
    """One sentence."""
    unit: str = ""
    """SI, or a word such as "pixels"; "" where there is none."""
    is_image: bool = False
    """Whether it holds a PNG file."""

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
    optional: tuple[Column, ...] = ()
    """Columns that follow these where they are asked for."""
    key: tuple[str, ...] = ()
    """Columns that identify a row; rows are sorted by them. () where no sorted columns do."""
    nested: bool = False
    """True: each sub-folder of the folder is a dataset."""

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns that every dataset of this kind has."""
        return pa.schema([column.field for column in self.columns])

    @cached_property
    def full_schema(self) -> pa.Schema:
        """All columns, the optional ones last."""
        return pa.schema([column.field for column in (*self.columns, *self.optional)])

    def find(self, name: str) -> Column | None:
        """Return the column of a name; None if none is declared."""
        return next((c for c in (*self.columns, *self.optional) if c.name == name), None)


def by_folder(tables: Iterable[Table]) -> dict[str, Table]:
    """Return tables by their folders, in their order."""
    return {table.folder: table for table in tables}


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


def image_column(name: str, meaning: str, *, unit: str = "") -> Column:
    """Declare a column of PNG files.

    Args:
        name: of the column.
        meaning: one sentence.
        unit: of its pixels' values.
    """
    return Column(pa.field(name, pa.binary()), meaning, unit, is_image=True)
