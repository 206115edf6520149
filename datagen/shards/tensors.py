"""Tensors in Parquet: ``binary`` columns, little-endian, C order.

The metadata of the field gives dtype and shape, with -1 for an axis whose length varies by row.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray


def tensor_field(name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> pa.Field:
    """Return a binary field whose metadata gives dtype and shape of its tensors.

    Args:
        name: of the field.
        dtype: of the tensors.
        shape: of the tensors; -1 for an axis whose length varies by row.
    """
    spec = {"dtype": np.dtype(dtype).newbyteorder("<").str, "shape": json.dumps(list(shape))}
    return pa.field(name, pa.binary(), metadata=spec)


def tensor_bytes(field: pa.Field, array: NDArray[np.generic]) -> bytes:
    """Return the bytes that a field stores for an array.

    Args:
        field: a tensor field.
        array: (...), of the field's shape; it is converted to the field's dtype.

    Raises:
        ValueError: the array has another shape.
    """
    _, shape = tensor_spec(field)
    if len(shape) != array.ndim or any(
        want not in (-1, have) for want, have in zip(shape, array.shape, strict=True)
    ):
        raise ValueError(f"column {field.name} holds {shape}, got an array of {array.shape}")
    return np.ascontiguousarray(array, field.metadata[b"dtype"].decode()).tobytes()


def read_tensor(field: pa.Field, data: bytes) -> NDArray[np.generic]:
    """Return the array (...) of a tensor field's bytes, read-only, with its dtype and shape.

    Raises:
        ValueError: the number of bytes does not fit the shape.
    """
    dtype, shape = tensor_spec(field)
    return np.frombuffer(data, dtype).reshape(shape)


def tensor_spec(field: pa.Field) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return dtype and shape of a tensor field; -1 is an axis whose length varies by row."""
    return np.dtype(field.metadata[b"dtype"].decode()), tuple(json.loads(field.metadata[b"shape"]))


def is_tensor(field: pa.Field) -> bool:
    """Return whether a field holds a tensor."""
    return field.metadata is not None and b"shape" in field.metadata
