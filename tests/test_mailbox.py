from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_unet.mailbox import Mailbox, Region, Stroke


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


def test_strokes_are_taken_once_and_in_order() -> None:
    box = Mailbox()
    window = Region(0, (), (0, 0), (1, 2))
    strokes = [
        Stroke(window, np.full((1, 2), i, np.int32), np.ones((1, 2), bool))
        for i in (1, 2)
    ]
    for stroke in strokes:
        box.paint(stroke)
    assert box.take_strokes() == strokes
    assert box.take_strokes() == []


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_learning_rate_that_is_none_is_refused(rate: float) -> None:
    box = Mailbox()
    box.set_learning_rate(0.5)
    with pytest.raises(ValueError, match="give a number above 0"):
        box.set_learning_rate(rate)
    assert box.learning_rate == 0.5
