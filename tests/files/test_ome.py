"""OME-XML is read for what it says, and not trusted."""

from __future__ import annotations

import pytest

from napari_unet.errors import ImageError
from napari_unet.files.ome import check_xml, length_um, parse_ome

_OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:own">
<Image><Pixels SizeX="9" SizeY="8" SizeZ="7" SizeC="2" SizeT="3" {sizes}>
{channels}<TiffData><UUID FileName="{partner}">urn:uuid:{uuid}</UUID></TiffData>
</Pixels></Image></OME>"""


def _ome(
    sizes: str = "", channels: str = "", partner: str = "a.tif", uuid: str = "own"
) -> str:
    return _OME.format(sizes=sizes, channels=channels, partner=partner, uuid=uuid)


@pytest.mark.parametrize(
    ("value", "unit", "um"),
    [
        ("0.5", "µm", 0.5),  # micro sign
        ("0.5", "μm", 0.5),  # Greek letter
        (0.5, "\\u00B5m", 0.5),  # as ImageJ escapes it
        ("0.5", "micron", 0.5),
        ("65", "nm", 0.065),
        ("0.001", "mm", 1.0),
        ("2", "cm", 2e4),
        ("1e-6", "m", 1.0),
        ("5000", "Å", 0.5),
        ("1", "pixel", None),
        ("1", "", None),
        ("0", "um", None),
        ("-1", "um", None),
        ("nan", "um", None),
        ("inf", "um", None),
        ("wide", "um", None),
        (None, "um", None),
    ],
)
def test_a_length_is_micrometres_or_nothing(
    value: object, unit: str, um: float | None
) -> None:
    assert length_um(value, unit) == (None if um is None else pytest.approx(um))


def test_planes_of_all_images_count() -> None:
    info = parse_ome(_ome(), "a.tif")
    assert info is not None
    assert (info.n_images, info.n_planes, info.partners) == (1, 42, ())


def test_a_pixel_size_without_unit_is_micrometres() -> None:
    sizes = 'PhysicalSizeX="0.3" PhysicalSizeY="300" PhysicalSizeYUnit="nm"'
    info = parse_ome(_ome(sizes), "a.tif")
    assert info is not None
    assert info.pixel_size_um == pytest.approx({"X": 0.3, "Y": 0.3})


def test_channel_names_count_only_if_each_has_one() -> None:
    named = '<Channel Name="DAPI"/><Channel Name="GFP"/>'
    info = parse_ome(_ome(channels=named), "a.tif")
    assert info is not None
    assert info.channel_names == ("DAPI", "GFP")
    half = parse_ome(_ome(channels='<Channel Name="DAPI"/><Channel/>'), "a.tif")
    assert half is not None
    assert half.channel_names == ()


def test_planes_in_other_files_are_noticed_but_not_a_renamed_file() -> None:
    other = parse_ome(_ome(partner="../b.tif", uuid="other"), "a.tif")
    assert other is not None
    assert other.partners == ("../b.tif",)
    renamed = parse_ome(_ome(partner="old name.tif", uuid="own"), "a.tif")
    assert renamed is not None
    assert renamed.partners == ()


@pytest.mark.parametrize(
    "xml", ["", "<OME>", "<OME></OME>", _ome().replace('SizeT="3"', 'SizeT="many"')]
)
def test_what_is_not_readable_is_nothing(xml: str) -> None:
    assert parse_ome(xml, "a.tif") is None


@pytest.mark.parametrize(
    "xml",
    ['<!DOCTYPE x [<!ENTITY a "b">]><OME/>', '<!ENTITY a "b">', " " * (16 * 2**20 + 1)],
)
def test_entities_and_floods_are_refused_before_parsing(xml: str) -> None:
    with pytest.raises(ImageError, match=r"a\.tif has metadata that") as caught:
        check_xml(xml, "a.tif")
    assert caught.value.code == "NU-I04"
