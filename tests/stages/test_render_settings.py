"""The settings of ``datagen render`` that decide its bytes, and those that are refused."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from datagen.errors import ConfigError
from datagen.stages.render import RenderViews


@dataclass
class Input:
    """The part of a dataset that an identity uses."""

    fingerprint: str = "0"


INPUTS = {"assets": Input(), "layouts": Input()}


def fingerprint(**fields) -> str:
    return RenderViews(**fields).identity(INPUTS).fingerprint


def test_quality_is_identified_by_its_numbers_however_they_are_given():
    assert fingerprint() == fingerprint(quality="standard")
    assert fingerprint(quality="reference") == fingerprint(samples=128, denoise=True)
    assert fingerprint(quality="draft", samples=8) == fingerprint()
    assert fingerprint(quality="draft") != fingerprint()
    assert fingerprint(denoise=False) != fingerprint()


@pytest.mark.parametrize(
    "fields",
    [
        {"passes": ("depth",)},
        {"light": "random"},
        {"ground": True},
        {"min_visible_fraction": 0.1},
        {"min_visible_px": 5},
    ],
)
def test_setting_that_changes_rows_changes_the_fingerprint(fields):
    assert fingerprint(**fields) != fingerprint()


def test_skies_are_known_by_content_and_not_by_where_they_lie(tmp_path: Path):
    first, copy = tmp_path / "a", tmp_path / "b"
    for folder in (first, copy):
        folder.mkdir()
        (folder / "dawn.hdr").write_bytes(b"dawn")
        (folder / "noon.EXR").write_bytes(b"noon")
        (folder / "notes.txt").write_text(str(folder))
    before = fingerprint(light="hdri", hdri_folder=first)

    assert fingerprint(light="hdri", hdri_folder=copy) == before
    (copy / "noon.EXR").write_bytes(b"night")
    assert fingerprint(light="hdri", hdri_folder=copy) != before


def test_folder_without_skies_is_refused_with_what_it_holds(tmp_path: Path):
    (tmp_path / "photo.png").write_bytes(b"")

    with pytest.raises(ConfigError, match=r"holds 1 other files\. Expected .*\.hdr, \.exr"):
        fingerprint(light="hdri", hdri_folder=tmp_path)
    with pytest.raises(ConfigError, match="is not a folder"):
        fingerprint(light="hdri", hdri_folder=tmp_path / "missing")


@pytest.mark.parametrize("fields", [{"light": "hdri"}, {"hdri_folder": Path("skies")}])
def test_sky_light_and_its_folder_come_together(fields):
    with pytest.raises(ConfigError, match="--light hdri and --hdri-folder"):
        RenderViews(**fields)


@pytest.mark.parametrize(
    "fields", [{"min_visible_fraction": 1.1}, {"samples": 0}, {"min_visible_px": 0}]
)
def test_number_out_of_range_is_refused_with_its_name(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        RenderViews(**fields)
