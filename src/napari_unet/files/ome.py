"""What the OME-XML of a TIFF says: planes, pixel size, channel names."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from napari_unet.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from xml.etree.ElementTree import Element

_MAX_XML = 16 * 2**20
_UM_PER_UNIT = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "nm": 1e-3,
    "Å": 1e-4,
    "pm": 1e-6,
    # As OME-Zarr has them.
    "meter": 1e6,
    "centimeter": 1e4,
    "millimeter": 1e3,
    "micrometer": 1.0,
    "nanometer": 1e-3,
    "angstrom": 1e-4,
    "picometer": 1e-6,
}


@dataclass(frozen=True)
class OmeInfo:
    """The first image that an OME-XML describes.

    Parameters
    ----------
    n_images : int
        Images described.
    n_planes : int
        Planes (Y, X) of all images together.
    pixel_size_um : mapping of str to float
        By axis, where stated.
    channel_names : tuple of str
        Empty unless each channel has a name.
    partners : tuple of str
        Other files that hold some of the planes.
    """

    n_images: int
    n_planes: int
    pixel_size_um: Mapping[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    partners: tuple[str, ...] = ()


def length_um(value: object, unit: str) -> float | None:
    """Return a length in micrometres, or None where it says nothing.

    Parameters
    ----------
    value : object
        A number, or text that should be one.
    unit : str
        Such as ``"µm"``, ``"micron"``, ``"nm"``; ``"pixel"`` is no length.
    """
    # Two Unicode letters look like µ, and ImageJ escapes one of them.
    unit = unit.strip().replace("\\u00B5", "u").replace("µ", "u").replace("μ", "u")
    try:
        length = float(str(value)) * _UM_PER_UNIT[unit]
    except (KeyError, ValueError):
        return None
    return length if math.isfinite(length) and length > 0 else None


def check_xml(xml: str, name: str) -> None:
    """Refuse XML that could blow up or reach out of the file (NU-I04)."""
    if len(xml) > _MAX_XML or "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise ImageError(
            "NU-I04",
            f"{name} has metadata that is too large or declares entities, which no "
            "microscope writes: save the image again as a plain TIFF",
        )


def parse_ome(xml: str, file_name: str) -> OmeInfo | None:
    """Return what an OME-XML says, or None where it is not readable.

    Parameters
    ----------
    xml : str
        Text that `check_xml` accepted.
    file_name : str
        Name of the file that holds it, without its folder.
    """
    try:
        root = ElementTree.fromstring(xml)
        images = [pixels for image in _all(root, "Image") for pixels in _all(image)]
        images = [pixels for pixels in images if _name(pixels) == "Pixels"]
        if not images:
            return None
        return OmeInfo(
            n_images=len(images),
            n_planes=sum(_n_planes(pixels) for pixels in images),
            pixel_size_um=_pixel_size_um(images[0]),
            channel_names=_channel_names(images[0]),
            partners=_partners(root, file_name),
        )
    except (ElementTree.ParseError, KeyError, ValueError, RecursionError):
        return None


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _all(element: Element, name: str = "") -> Iterator[Element]:
    return (child for child in element if not name or _name(child) == name)


def _n_planes(pixels: Element) -> int:
    return math.prod(int(pixels.attrib[f"Size{axis}"]) for axis in "CZT")


def _pixel_size_um(pixels: Element) -> dict[str, float]:
    sizes = {}
    for axis in "ZYX":
        unit = pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm")
        size = length_um(pixels.attrib.get(f"PhysicalSize{axis}"), unit)
        if size is not None:
            sizes[axis] = size
    return sizes


def _channel_names(pixels: Element) -> tuple[str, ...]:
    names = [channel.attrib.get("Name", "") for channel in _all(pixels, "Channel")]
    return tuple(names) if all(names) else ()


def _partners(root: Element, file_name: str) -> tuple[str, ...]:
    own = root.attrib.get("UUID")
    partners = set()
    for element in root.iter():
        if _name(element) != "UUID" or element.text == own:
            continue
        other = element.attrib.get("FileName", "another file")
        if other.lower() != file_name.lower():
            partners.add(other)
    return tuple(sorted(partners))
