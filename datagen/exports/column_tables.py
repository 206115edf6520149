"""Markdown tables of a dataset's columns, for cards and docs/data.md."""

from collections.abc import Iterable

import pyarrow as pa

from datagen.shards.tables import Table
from datagen.shards.tensors import is_tensor, tensor_spec

HEADER = ("| column | type | unit | meaning |", "|---|---|---|---|")


def column_table(table: Table, fields: Iterable[pa.Field]) -> list[str]:
    """Return the lines of a table of columns; a column that is not declared has no meaning in it.

    Args:
        table: the declarations.
        fields: the columns to list, of the table's schema or of a dataset.
    """
    return [*HEADER, *(_line(table, field) for field in fields)]


def _line(table: Table, field: pa.Field) -> str:
    declared = table.find(field.name)
    unit, meaning = ("", "") if declared is None else (declared.unit, declared.meaning)
    return f"| `{field.name}` | {_kind(field)} | {unit} | {meaning} |"


def _kind(field: pa.Field) -> str:
    if is_tensor(field):
        dtype, shape = tensor_spec(field)
        return f"{dtype.name} {tuple(shape)}"
    if pa.types.is_list(field.type):
        return f"list of {_kind(field.type.value_field)}"
    return "struct" if pa.types.is_struct(field.type) else str(field.type)
