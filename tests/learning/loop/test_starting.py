from __future__ import annotations

from dataclasses import replace

from napari_unet.events import Region
from napari_unet.learning.loop.starting import going_on


def test_what_a_model_was_validated_on_does_not_go_on_with_it(random_model):
    region = Region(0, (), (0, 0), (32, 32), "a.tif")
    start = replace(random_model(), held_back=(region,), validated_on="1 of 5 images")
    again = going_on(start)
    assert (again.held_back, again.validated_on) == ((), "")
