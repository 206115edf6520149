"""Tensors in Parquet: ``binary`` columns (little-endian, C order) whose metadata says the rest.

Metadata of the field: dtype, and shape with -1 for an axis whose length varies by row.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray


def tensor_field(name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> pa.Field:
    """Return a binary field whose metadata says how to read its bytes."""
    spec = {"dtype": np.dtype(dtype).newbyteorder("<").str, "shape": json.dumps(list(shape))}
    return pa.field(name, pa.binary(), metadata=spec)


def tensor_bytes(field: pa.Field, array: NDArray[np.generic]) -> bytes:
    """Return the bytes of an array as the field stores it; ValueError on another shape."""
    _, shape = tensor_spec(field)
    if len(shape) != array.ndim or any(
        want not in (-1, have) for want, have in zip(shape, array.shape, strict=True)
    ):
        raise ValueError(f"column {field.name} holds {shape}, got an array of {array.shape}")
    return np.ascontiguousarray(array, field.metadata[b"dtype"].decode()).tobytes()


def read_tensor(field: pa.Field, data: bytes) -> NDArray[np.generic]:
    """Return the array (read-only) that a tensor field's bytes hold."""
    dtype, shape = tensor_spec(field)
    return np.frombuffer(data, dtype).reshape(shape)


def tensor_spec(field: pa.Field) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return dtype and shape of a tensor field."""
    return np.dtype(field.metadata[b"dtype"].decode()), tuple(json.loads(field.metadata[b"shape"]))


def is_tensor(field: pa.Field) -> bool:
    """Return whether a field holds a tensor."""
    return field.metadata is not None and b"shape" in field.metadata
