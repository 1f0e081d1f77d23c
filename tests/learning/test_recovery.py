from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch import nn

from napari_unet.errors import ResourceError
from napari_unet.learning.device import DeviceChoice
from napari_unet.learning.recovery import Buffers, Memory, Stability

CPU = DeviceChoice("cpu", "CPU")
LACKS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"
    ),
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((2**40,), np.dtype(float)),
]


def _memory(batch_size: int = 8, patch_size: int = 64, least: int = 16) -> Memory:
    return Memory(
        CPU, batch_size=batch_size, patch_size=patch_size, min_patch_size=least
    )


def _run(memory: Memory, work) -> tuple[list[str], object]:
    """Return what is told on the way, and the outcome."""
    notes, generator = [], memory.within(work)
    while True:
        try:
            note = next(generator)
        except StopIteration as end:
            return notes, end.value
        assert note.is_warning
        notes.append(note.message)


@pytest.mark.parametrize("error", LACKS, ids=lambda error: type(error).__name__)
def test_work_that_fits_in_halves_is_done_in_halves(error):
    memory = _memory()

    def work() -> str:
        if memory.n_micro < 4:
            raise error
        return "done"

    notes, outcome = _run(memory, work)
    assert outcome == "done"
    assert (memory.n_micro, memory.patch_size) == (4, 64)
    assert notes == memory.told
    assert "8 patches of 64 px at once: each batch of 8 is now taken in 2" in notes[0]
    assert "4 patches of 64 px at once: each batch of 8 is now taken in 4" in notes[1]
    assert _run(memory, work) == ([], "done")  # told once, and kept


def test_then_the_patch_shrinks_and_at_last_it_is_said_what_is_needed():
    memory, seen = _memory(batch_size=3, patch_size=64), []

    def work() -> None:
        seen.append((memory.n_micro, memory.patch_size))
        raise MemoryError

    with pytest.raises(ResourceError, match="single patches of 16 px") as caught:
        _run(memory, work)
    assert caught.value.code == "NU-R02"
    assert seen == [(1, 64), (2, 64), (3, 64), (3, 42), (3, 28), (3, 18), (3, 16)]


def test_other_errors_pass():
    def work() -> None:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot"):
        _run(_memory(), work)

    def refuse() -> None:
        raise ResourceError("NU-R01", "no such device")

    with pytest.raises(ResourceError, match="no such device"):
        _run(_memory(), refuse)


def test_nothing_of_the_failed_work_is_held():
    memory, failed = _memory(), []

    def work() -> None:
        if failed:
            assert failed[-1]() is None
            return
        features = torch.zeros(10)
        failed.append(weakref.ref(features))
        raise torch.OutOfMemoryError("CUDA out of memory")

    notes, _ = _run(memory, work)
    assert len(notes) == 1


def test_a_patch_is_never_smaller_than_the_network_takes():
    assert _memory(patch_size=16, least=32).patch_size == 32


def test_step_downs_are_gone_on_with():
    first, second = _memory(), _memory()
    first.n_micro, first.patch_size, first.told = 4, 48, ["less"]
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()


def test_a_single_bad_step_is_skipped():
    stability = Stability()
    assert stability.judge(10) == "skip"
    assert stability.judge(100) == "skip"
    assert stability.skipped == [10, 100]
    assert stability.lr_factor == 1


def test_two_bad_steps_in_a_row_go_back_and_after_three_times_it_ends():
    stability = Stability()
    done = [stability.judge(step) for step in range(1, 9)]
    assert done == [*["skip", "roll back"] * 3, "skip", "stop"]
    assert stability.lr_factor == 1 / 8


@pytest.mark.parametrize("n_before", range(8))
def test_bad_steps_are_judged_alike_after_going_on(n_before):
    first, second = Stability(), Stability()
    for step in range(n_before):
        first.judge(step)
    second.load_state_dict(first.state_dict())
    assert first.judge(n_before) == second.judge(n_before)
    assert first.state_dict() == second.state_dict()


def test_buffers_are_those_of_the_last_good_step():
    net = nn.BatchNorm2d(2)
    buffers = Buffers(net)
    net(torch.randn(4, 2, 5, 5))
    buffers.keep()
    good = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net(torch.full((4, 2, 5, 5), torch.nan))
    assert net.running_mean.isnan().all()
    buffers.restore()
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, good[name])


def test_a_network_without_buffers_has_none_to_restore():
    buffers = Buffers(nn.Linear(1, 1))
    buffers.keep()
    buffers.restore()
