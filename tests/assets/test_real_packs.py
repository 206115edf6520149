"""Protects sizes and supports of real furniture: they agree with the makers' catalogue."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from datagen.assets.objects import SourceObject
from datagen.assets.prepare import prepare_asset
from datagen.assets.sweethome3d import (
    CATALOGUE,
    SweetHome3DSource,
    group_by_index,
    open_pack,
    read_properties,
)
from datagen.blender import BlenderProcess

# Where Debian's package sweethome3d-furniture puts them.
PACKS = Path(os.environ.get("DATAGEN_SWEETHOME3D", "/usr/share/sweethome3d/furniture"))
CC0 = PACKS / "BlendSwap-CC-0.sh3f"

pytestmark = [
    pytest.mark.real_assets,
    pytest.mark.blender,
    pytest.mark.slow,
    pytest.mark.skipif(not CC0.exists(), reason=f"no {CC0}; set DATAGEN_SWEETHOME3D"),
]

TABLES = {
    "bedsideTable2": 45.4,
    "oakTable": 74.1,
    "table": 73.9,
    "tableWithTablecloth": 75.0,
    "technicalTable1": 95.0,
    "technicalTable2": 101.3,
    "desk": 74.4,
    "lbDesk": 72.1,
    "bench": 39.6,
    "modernVanity": 83.4,
}
"""dropOnTopElevation in the catalogue, cm; where it says nothing, the height."""


@pytest.fixture(scope="module")
def source() -> SweetHome3DSource:
    return SweetHome3DSource(CC0)


@pytest.fixture(scope="module")
def blender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlenderProcess]:
    with BlenderProcess(tmp_path_factory.mktemp("log") / "blender.log", threads=1) as process:
        yield process


def model_name(obj: SourceObject) -> str:
    return obj.uid.split("/")[-2]


def entries() -> dict[int, dict[str, str]]:
    with open_pack(CC0) as archive:
        return group_by_index(read_properties(archive.read(CATALOGUE).decode("latin-1")))


def test_pack_lists_175_objects_of_public_domain(source):
    objects = source.list_objects()
    assert len(objects) == 175
    assert {obj.license for obj in objects} == {"CC0-1.0"}


def test_tables_and_desks_carry_within_15_mm_of_the_catalogue(source, blender, tmp_path):
    off = {}
    for obj in source.list_objects():
        if model_name(obj) in TABLES:
            row = prepare_asset(source, obj, blender, tmp_path)
            assert row["extent_m"] == pytest.approx(obj.options.size_m, abs=1e-5)
            height_cm = row["support"]["height_m"] * 100 if row["support"] else np.nan
            off[model_name(obj)] = abs(height_cm - TABLES[model_name(obj)])
    assert set(off) == set(TABLES)
    assert all(distance <= 1.5 for distance in off.values()), off


def test_objects_that_carry_nothing_in_the_catalogue_have_no_support(source, blender, tmp_path):
    catalogue = entries()
    supports = {}
    for obj in source.list_objects():
        index = int(obj.uid.rpartition("#")[2])
        small = obj.options.size_m is not None and max(obj.options.size_m) < 1.2
        if small and catalogue[index].get("dropOnTopElevation") == "-1":
            supports[model_name(obj)] = prepare_asset(source, obj, blender, tmp_path)["support"]
    assert len(supports) >= 10
    assert [name for name, support in supports.items() if support is not None] == []
