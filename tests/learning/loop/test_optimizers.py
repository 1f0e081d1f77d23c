from __future__ import annotations

import pytest
import torch

from napari_unet.config import TrainConfig
from napari_unet.learning.device import DeviceChoice
from napari_unet.learning.loop.optimizers import build_optimizer

CPU, MPS = DeviceChoice("cpu", "CPU"), DeviceChoice("mps", "MPS")


def _weight() -> torch.nn.Parameter:
    weight = torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    weight = weight.contiguous(memory_format=torch.channels_last)
    return torch.nn.Parameter(weight)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize(("device", "is_fused"), [(CPU, True), (MPS, False)])
def test_it_is_torchs_own_to_the_bit_but_has_its_memory_from_the_start(
    name, device, is_fused
):
    config = TrainConfig(optimizer=name, momentum=0.9, weight_decay=0.1)
    ours, theirs = _weight(), _weight()
    optimizer = build_optimizer([ours], config, device)
    assert optimizer.defaults["fused"] is is_fused
    memory = [t.data_ptr() for t in optimizer.state[ours].values()]
    given = {"lr": config.learning_rate, "weight_decay": 0.1, "fused": is_fused}
    plain = (
        torch.optim.SGD([theirs], momentum=0.9, **given)
        if name == "sgd"
        else torch.optim.AdamW([theirs], **given)
    )
    for i in range(3):
        for weight in (ours, theirs):
            weight.grad = weight.detach() ** 2 + i
        optimizer.step()
        plain.step()
    assert torch.equal(ours, theirs)
    assert [t.data_ptr() for t in optimizer.state[ours].values()] == memory
    for slot, tensor in plain.state[theirs].items():
        assert torch.equal(optimizer.state[ours][slot], tensor)
        assert optimizer.state[ours][slot].stride() == tensor.stride()


def test_no_velocities_are_kept_without_momentum():
    weight = _weight()
    optimizer = build_optimizer([weight], TrainConfig(optimizer="sgd", momentum=0), CPU)
    assert not optimizer.state[weight]
