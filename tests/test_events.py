from __future__ import annotations

import dataclasses

import pytest

from napari_unet import events, mailbox
from napari_unet.events import Event, StepDone

KINDS = [
    kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, Event)
]


@pytest.mark.parametrize("kind", KINDS)
def test_events_can_not_be_changed(kind: type[Event]) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_an_event_says_what_it_is() -> None:
    event = StepDone(step=1, n_steps=2, loss=0.5, elapsed_s=1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.step = 2  # type: ignore[misc]
    assert repr(event) == "StepDone(step=1, n_steps=2, loss=0.5, elapsed_s=1.0)"


def test_users_find_the_mailbox_beside_the_events() -> None:
    assert events.Mailbox is mailbox.Mailbox
    assert (events.Region, events.Stroke) == (mailbox.Region, mailbox.Stroke)
