"""Datasets: folders of Parquet shards sealed by a manifest."""

from datagen.shards.dataset import Dataset, Row, open_dataset
from datagen.shards.output import Failure, Identity, Output
from datagen.shards.storage import Folder

__all__ = ["Dataset", "Failure", "Folder", "Identity", "Output", "Row", "open_dataset"]
