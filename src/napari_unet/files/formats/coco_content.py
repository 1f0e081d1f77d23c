"""What a COCO file has to look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from napari_unet.errors import LabelError
from napari_unet.files.formats.own_member import OWN
from napari_unet.files.formats.shapes import as_ring
from napari_unet.files.json_files import read_foreign_json

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_Size = Annotated[int, Field(ge=1, lt=2**31)]
Id = int | str


class CocoImage(BaseModel):
    """An image, by its name in the image folder."""

    id: Id
    file_name: str
    width: _Size | None = None
    height: _Size | None = None


class CocoObject(BaseModel):
    """An object on an image: COCO calls it an annotation."""

    id: Any = None
    image_id: Id
    category_id: Id | None = None
    segmentation: Any = None
    iscrowd: Any = 0
    own: Any = Field(None, alias=OWN)

    @property
    def wanted_id(self) -> Any:
        """The id that it had in our labels, if it comes from there."""
        return self.own.get("label") if isinstance(self.own, dict) else None


class CocoCategory(BaseModel):
    """A class."""

    id: Id
    name: Any = None
    color: Any = None


class CocoContent(BaseModel):
    """The file."""

    images: list[CocoImage]
    annotations: list[CocoObject] = []
    categories: list[CocoCategory] = []
    own: Any = Field(None, alias=OWN)


def parse_coco(path: Path) -> CocoContent:
    """Read a file and check its structure, not yet the shapes.

    Raises
    ------
    FolderError, ConfigError
        As `read_foreign_json`.
    LabelError
        Not a COCO file (NU-A02).
    """
    value = read_foreign_json(path)
    try:
        return CocoContent.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise LabelError(
            "NU-A02",
            f"{path} is not a COCO annotation file ({where or 'content'}: "
            f"{first['msg']}): export it as COCO instances again",
        ) from error


def size_of(segmentation: dict[str, Any], where: str) -> tuple[int, int]:
    """Return the (height, width) of the image that run lengths are for.

    Raises
    ------
    LabelError
        There is none (NU-A03).
    """
    size = segmentation.get("size")
    numbers = size if isinstance(size, list) else []
    if len(numbers) != 2 or not all(type(n) is int and 0 < n < 2**31 for n in numbers):
        raise LabelError(
            "NU-A03",
            f"{where} has run lengths without the size of their image: export it again",
        )
    return numbers[0], numbers[1]


def polygons_of(one: CocoObject, where: str) -> list[NDArray[np.float64]]:
    """Return the parts of an object as rings (y, x), 0 the centre of the first pixel.

    Raises
    ------
    LabelError
        Not polygons of places in an image (NU-A03).
    """
    parts = one.segmentation
    if not isinstance(parts, list):
        raise LabelError(
            "NU-A03",
            f"{where} has an object that is neither polygons nor run lengths: export "
            "it again",
        )
    if parts and not isinstance(parts[0], list):
        parts = [parts]
    # In COCO the first pixel spans 0 to 1, here -0.5 to 0.5.
    return [as_ring(part, where)[:, ::-1] - 0.5 for part in parts]
