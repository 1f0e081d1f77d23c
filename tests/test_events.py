from __future__ import annotations

import dataclasses
import threading

import pytest

from napari_unet import events
from napari_unet.events import Event, Mailbox, StepDone

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


def test_a_new_mailbox_asks_for_nothing() -> None:
    mailbox = Mailbox()
    assert not mailbox.wants_stop
    assert not mailbox.wants_pause
    assert mailbox.wait(0)


def test_pause_holds_until_resume() -> None:
    mailbox = Mailbox()
    mailbox.pause()
    assert mailbox.wants_pause
    assert not mailbox.wait(0)
    mailbox.resume()
    assert not mailbox.wants_pause
    assert mailbox.wait(0)


def test_stop_releases_paused_work() -> None:
    mailbox = Mailbox()
    mailbox.pause()
    mailbox.stop()
    assert mailbox.wants_stop
    assert mailbox.wait(0)


def test_pause_after_stop_does_not_hold_the_work() -> None:
    mailbox = Mailbox()
    mailbox.stop()
    mailbox.pause()
    assert not mailbox.wants_pause


def test_another_thread_can_wake_waiting_work() -> None:
    mailbox = Mailbox()
    mailbox.pause()
    other = threading.Thread(target=mailbox.resume)
    other.start()
    assert mailbox.wait(30)
    other.join()
