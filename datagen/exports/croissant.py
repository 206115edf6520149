"""The Croissant description of a workspace (MLCommons, https://docs.mlcommons.org/croissant)."""

from dataclasses import replace
from typing import Any

import pyarrow as pa

from datagen.exports.summary import DatasetSummary, Summary
from datagen.shards.tables import Column, Table
from datagen.shards.tensors import is_tensor, tensor_spec

_Json = dict[str, Any]

CONTEXT: _Json = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context of version 1.0 of the specification."""

PARQUET = "application/x-parquet"


def croissant(summary: Summary) -> _Json:
    """Return a workspace's Croissant description: files with sha256, and typed columns.

    Columns of structs are left out, since readers of Croissant cannot read them from Parquet.
    """
    described: _Json = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": summary.title,
        "description": "Randomly composed 3D scenes of single objects: layouts, views with "
        "instance masks, voxels and latents in the frame of each view.",
        "version": "1.0.0",
        "datePublished": summary.finished,
        "creator": {"@type": "Organization", "name": f"datagen {summary.version}"},
        "distribution": [file for entry in summary.datasets for file in _files(entry)],
        "recordSet": [_record_set(entry) for entry in summary.datasets],
    }
    if summary.licenses:
        described["license"] = [license_url(name) for name in sorted(summary.licenses)]
    return described


def license_url(license_id: str) -> str:
    """Return the address of a license's terms: at SPDX, or ATTRIBUTION.md beside the data."""
    if license_id.startswith("LicenseRef-"):
        return "ATTRIBUTION.md"
    return f"https://spdx.org/licenses/{license_id}.html"


def _files(entry: DatasetSummary) -> list[_Json]:
    shards = [
        {
            "@type": "cr:FileObject",
            "@id": f"{entry.name}/{record['path']}",
            "name": f"{entry.name}/{record['path']}",
            "contentUrl": f"{entry.name}/{record['path']}",
            "contentSize": f"{entry.sizes[record['path']]} B",
            "encodingFormat": PARQUET,
            "sha256": record["sha256"],
        }
        for record in entry.dataset.manifest["shards"]
    ]
    together = {
        "@type": "cr:FileSet",
        "@id": f"{entry.name}-shards",
        "name": f"{entry.name}-shards",
        "description": f"All shards of {entry.name}.",
        "encodingFormat": PARQUET,
        "includes": f"{entry.name}/*.parquet",
    }
    return [*shards, together]


def _record_set(entry: DatasetSummary) -> _Json:
    keys = [{"@id": f"{entry.name}/{name}"} for name in entry.table.key]
    columns = [_column(entry.table, field) for field in entry.schema]
    return {
        "@type": "cr:RecordSet",
        "@id": entry.name,
        "name": entry.name,
        "description": f"A row is {entry.table.row}.",
        **({"key": keys} if keys else {}),
        "field": [_field(entry.name, c) for c in columns if _data_type(c) is not None],
    }


def _column(table: Table, field: pa.Field) -> Column:
    """Return the column of a dataset's field, with the declared meaning if there is one."""
    declared = table.find(field.name)
    return Column(field, "") if declared is None else replace(declared, field=field)


def _field(dataset: str, column: Column) -> _Json:
    description = column.meaning
    if column.unit:
        description += f" Unit: {column.unit}."
    if is_tensor(column.field):
        dtype, shape = tensor_spec(column.field)
        description += f" Raw bytes, little-endian, C order: {dtype.name} {tuple(shape)}."
    return {
        "@type": "cr:Field",
        "@id": f"{dataset}/{column.name}",
        "name": column.name,
        "description": description.strip(),
        "dataType": _data_type(column),
        **({"repeated": True} if pa.types.is_list(column.field.type) else {}),
        "source": {
            "fileSet": {"@id": f"{dataset}-shards"},
            "extract": {"column": column.name},
        },
    }


def _data_type(column: Column) -> str | None:
    """Return the Croissant type of a column, None for structs; bytes have the type of text."""
    kind = column.field.type
    kind = kind.value_type if pa.types.is_list(kind) else kind
    if column.is_image:
        return "sc:ImageObject"
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_floating(kind):
        return "sc:Float"
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return "sc:Text"
    return None
