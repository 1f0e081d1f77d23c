from __future__ import annotations

import pickle

import pytest

from napari_unet import errors
from napari_unet.errors import UNetError

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, UNetError)
]


def test_str_ends_with_the_code() -> None:
    error = errors.ImageError("NU-I01", "a.tif is empty: export it again")
    assert str(error) == "a.tif is empty: export it again [NU-I01]"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_caught_as_unet_error_and_never_as_runtime_error(
    kind: type[UNetError],
) -> None:
    assert issubclass(kind, UNetError)
    assert not issubclass(kind, RuntimeError)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_to_another_process(kind: type[UNetError]) -> None:
    error = pickle.loads(pickle.dumps(kind("NU-X01", "what happened")))
    assert (type(error), error.code, error.message) == (
        kind,
        "NU-X01",
        "what happened",
    )
