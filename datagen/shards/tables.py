"""Declarations of a stage's dataset: every column once, with type, unit and one sentence.

Schemas, cards, Croissant files, docs/data.md and ``datagen verify`` use these declarations.
Parquet files do not contain the units and sentences.
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
    """Name and type; for a tensor also dtype and shape, in the metadata."""
    meaning: str
    """One sentence."""
    unit: str = ""
    """SI unit, or a word such as "pixels"; "" if there is none."""
    is_image: bool = False
    """Whether it holds a PNG file."""

    @property
    def name(self) -> str:
        """Name of the column."""
        return str(self.field.name)


@dataclass(frozen=True)
class Table:
    """The declaration of a stage's dataset."""

    folder: str
    """Its folder in a workspace."""
    verb: str
    """The command that makes it: ``datagen VERB``."""
    row: str
    """What a row describes, in words; "" if the dataset has no rows."""
    columns: tuple[Column, ...]
    """Columns that every dataset of this kind has."""
    optional: tuple[Column, ...] = ()
    """Columns that a dataset has, after the others, if they are asked for."""
    key: tuple[str, ...] = ()
    """Columns that identify a row; rows are sorted by them. () if there is no such key."""
    nested: bool = False
    """True: each sub-folder of the folder is a dataset."""

    @cached_property
    def schema(self) -> pa.Schema:
        """Arrow schema of the columns that every dataset of this kind has."""
        return pa.schema([column.field for column in self.columns])

    @cached_property
    def full_schema(self) -> pa.Schema:
        """Arrow schema of all columns, the optional ones last."""
        return pa.schema([column.field for column in (*self.columns, *self.optional)])

    def find(self, name: str) -> Column | None:
        """Return the column of a name; None if none is declared."""
        return next((c for c in (*self.columns, *self.optional) if c.name == name), None)


def by_folder(tables: Iterable[Table]) -> dict[str, Table]:
    """Return tables by folder, in their order."""
    return {table.folder: table for table in tables}


def column(name: str, kind: pa.DataType, meaning: str, *, unit: str = "") -> Column:
    """Return the declaration of a column.

    Args:
        name: of the column, with its unit as a suffix if it has one (``radius_m``).
        kind: Arrow type.
        meaning: one sentence for readers of the data.
        unit: of the values.
    """
    return Column(pa.field(name, kind), meaning, unit)


def tensor_column(
    name: str, dtype: DTypeLike, shape: tuple[int, ...], meaning: str, *, unit: str = ""
) -> Column:
    """Return the declaration of a column of arrays, stored as bytes, little-endian, C order.

    Args:
        name: of the column.
        dtype: of the array.
        shape: of the array; -1 for an axis whose length varies by row.
        meaning: one sentence for readers of the data.
        unit: of the values.
    """
    return Column(tensor_field(name, np.dtype(dtype), shape), meaning, unit)


def image_column(name: str, meaning: str, *, unit: str = "") -> Column:
    """Return the declaration of a column of PNG files.

    Args:
        name: of the column.
        meaning: one sentence for readers of the data.
        unit: of the pixels' values.
    """
    return Column(pa.field(name, pa.binary()), meaning, unit, is_image=True)
