from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load, save

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.learning import device as device_module
from napari_unet.learning.augmentation import Batch
from napari_unet.learning.device import DeviceChoice
from napari_unet.learning.loop.stepping import Stepper
from napari_unet.learning.losses import weighted_cross_entropy
from napari_unet.learning.losses.by_role import loss_for
from napari_unet.learning.networks import build_network

CPU = DeviceChoice("cpu", "CPU")
ROLES = ("softmax:background", "softmax:cell")
SGD = TrainConfig(optimizer="sgd", momentum=0.9, weight_decay=0)


def _net(**settings: object) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = build_network(NetworkConfig(base_width=2, depth=1, **settings))
        torch.nn.init.normal_(net.head.weight, std=0.5)
    return net.train()


def _batch(n: int = 4, seed: int = 0, size: int = 16) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    weights = torch.rand(n, size, size, generator=rng) * 10
    weights[:, :5] = 0
    # Each patch has another share of the weights.
    weights *= torch.arange(n)[:, None, None]
    return Batch(
        torch.rand(n, 1, size, size, generator=rng),
        torch.randint(0, 2, (n, size, size), generator=rng),
        weights,
    )


def _stepper(net, config=SGD, precision="fp32") -> Stepper:
    return Stepper(net, loss_for(config, ROLES), config, CPU, precision)


def _copy_of_weights(net) -> dict[str, torch.Tensor]:
    return {name: t.detach().clone() for name, t in net.state_dict().items()}


def _assert_close(net, other, **tolerance) -> None:
    ours, theirs = net.state_dict(), other.state_dict()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], **tolerance)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_steps_are_those_of_the_plain_loop(name):
    config = TrainConfig(optimizer=name, momentum=0.9, weight_decay=0.1)
    net, plain = _net(), _net()
    stepper = _stepper(net, config)
    if name == "adamw":
        optimizer = torch.optim.AdamW(
            plain.parameters(), weight_decay=0.1, foreach=False, fused=False
        )
    else:
        optimizer = torch.optim.SGD(
            plain.parameters(),
            momentum=0.9,
            weight_decay=0.1,
            foreach=False,
            fused=False,
        )
    for i, lr in enumerate((0.01, 0.02, 0.005)):
        batch = _batch(seed=i)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        loss = weighted_cross_entropy(plain(batch.image), batch.classes, batch.weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 5.0)
        optimizer.step()
        assert stepper.step(batch, lr) == pytest.approx(loss.item(), rel=1e-5)
    _assert_close(net, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("loss", ["cross_entropy", "dice", "combined", "focal"])
@pytest.mark.parametrize("n_micro", [2, 3, 9])
def test_a_batch_in_parts_gives_the_step_of_the_whole(loss, n_micro):
    config = SGD.model_copy(update={"loss": loss})
    whole, parts = _net(norm="none"), _net(norm="none")
    before = _copy_of_weights(whole)
    losses = [
        _stepper(whole, config).step(_batch(), 0.1),
        _stepper(parts, config).step(_batch(), 0.1, n_micro=n_micro),
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert not torch.equal(whole.head.weight, before["head.weight"])
    _assert_close(whole, parts, atol=1e-6, rtol=1e-5)


def test_a_pooled_loss_sees_the_same_dropout_when_it_looks_and_when_it_learns():
    config = SGD.model_copy(update={"loss": "dice"})
    net = _net(norm="none", dropout=0.5)
    masks = []
    net.dropout.register_forward_hook(lambda _m, _i, out: masks.append(out == 0))
    with device_module.seeded(CPU, 4):
        _stepper(net, config).step(_batch(), 0.1, n_micro=2)
    looked, learned = masks[: len(masks) // 2], masks[len(masks) // 2 :]
    assert all(torch.equal(a, b) for a, b in zip(looked, learned, strict=True))
    assert not torch.equal(learned[0], learned[-1])


def test_looking_first_leaves_the_running_statistics_of_one_pass():
    dice, entropy = _net(), _net()
    config = SGD.model_copy(update={"loss": "dice"})
    _stepper(dice, config).step(_batch(), 0.1, n_micro=2)
    _stepper(entropy).step(_batch(), 0.1, n_micro=2)
    for (name, ours), (_, theirs) in zip(
        dice.named_buffers(), entropy.named_buffers(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_a_batch_where_nothing_is_known_changes_nothing_but_is_no_error():
    batch = _batch()
    unknown = Batch(batch.image, batch.classes, torch.zeros_like(batch.weights))
    for n_micro in (1, 2):
        net = _net(norm="none")
        before = _copy_of_weights(net)
        assert _stepper(net).step(unknown, 0.1, n_micro) == 0
        assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())


@pytest.mark.parametrize("n_micro", [1, 2])
def test_a_step_that_is_not_finite_is_not_taken(n_micro):
    net = _net(norm="none")
    stepper = _stepper(net)
    stepper.step(_batch(), 0.1)
    before, memory = _copy_of_weights(net), stepper.state_dict()
    batch = _batch()
    batch.image[1, 0, 9, 9] = float("nan")
    assert stepper.step(batch, 0.1, n_micro) != stepper.step(batch, 0.1, n_micro)
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    after = stepper.state_dict()
    assert all(torch.equal(t, after[n]) for n, t in memory.items())


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_no_nan_is_lost_on_its_way(norm, precision, sign):
    # A NaN has a sign bit, and a ReLU might take it for a negative number.
    net = _net(norm=norm)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    batch = _batch()
    nan = torch.copysign(torch.tensor(float("nan")), torch.tensor(float(sign)))
    batch.image[1, 0, 9, 9] = nan
    stepper, losses = _stepper(net, precision=precision), []
    for _ in range(20 if precision == "fp16" else 1):  # until its scale is below 1
        losses.append(stepper.step(batch, 0.1))
    assert losses[-1] != losses[-1]
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())


def test_large_gradients_are_clipped():
    net = _net(norm="none")
    before = _copy_of_weights(net)
    batch = _batch()
    _stepper(net).step(Batch(batch.image * 1e4, batch.classes, batch.weights), 0.01)
    moved = sum(
        (t - before[name]).double().square().sum()
        for name, t in net.state_dict().items()
    )
    assert moved.sqrt().item() == pytest.approx(5 * 0.01, rel=1e-3)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_going_on_from_a_saved_state_is_going_on(name, precision):
    config = TrainConfig(optimizer=name)
    net = _net()
    stepper = _stepper(net, config, precision)
    for i in range(2):
        stepper.step(_batch(seed=i), 0.01)
    stored = save(stepper.state_dict())
    other = copy.deepcopy(net)
    resumed = _stepper(other, config, precision)
    resumed.load_state_dict(load(stored))
    for i in range(2, 4):
        losses = [s.step(_batch(seed=i), 0.01) for s in (stepper, resumed)]
        assert losses[0] == losses[1]
    assert all(
        torch.equal(a, other.state_dict()[n]) for n, a in net.state_dict().items()
    )
    again = resumed.state_dict()
    assert all(torch.equal(t, again[n]) for n, t in stepper.state_dict().items())


def test_a_saved_state_is_a_copy():
    stepper = _stepper(_net())
    stepper.step(_batch(), 0.1)
    state = stepper.state_dict()
    before = {name: t.clone() for name, t in state.items()}
    stepper.step(_batch(), 0.1)
    assert all(torch.equal(t, before[name]) for name, t in state.items())


def test_the_state_of_another_network_is_refused_and_nothing_taken_from_it():
    stepper = _stepper(_net())
    before = stepper.state_dict()
    for other, says in (
        (_net(norm="none"), "in one of network and state only"),
        (_net(in_channels=2), r"of shape \(2, 2, 3, 3\), not \(2, 1, 3, 3\)"),
    ):
        state = _stepper(other).state_dict()
        for tensor in state.values():
            tensor += 1
        with pytest.raises(ValueError, match=says):
            stepper.load_state_dict(state)
    after = stepper.state_dict()
    assert all(torch.equal(t, after[name]) for name, t in before.items())


def test_bf16_is_used_in_the_forward_pass_alone():
    net = _net()
    seen = []
    net.head.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    assert 0 < _stepper(net, precision="bf16").step(_batch(), 0.01) < 10
    assert seen == [torch.bfloat16]
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in net.parameters()} == {torch.float32}


def test_fp16_leaves_out_steps_whose_scale_was_too_large_and_goes_on():
    net = _net(norm="none")
    stepper = _stepper(net, precision="fp16")
    before = _copy_of_weights(net)
    batch = _batch()
    batch = Batch(batch.image * 1000, batch.classes, batch.weights)
    losses, moved = [], []
    for _ in range(16):
        losses.append(stepper.step(batch, 1e-5))
        moved.append(not torch.equal(net.head.weight, before["head.weight"]))
    assert all(0 < loss < 1e6 for loss in losses)
    assert not moved[0]
    assert moved[-1]
    scale = stepper.state_dict()["scaler.scale"].item()
    assert 1 <= scale < 2**16
    resumed = _stepper(copy.deepcopy(net), precision="fp16")
    resumed.load_state_dict(stepper.state_dict())
    assert resumed.state_dict()["scaler.scale"].item() == scale


def test_fp16_says_when_it_is_the_loss_that_diverged():
    stepper = _stepper(_net(norm="none"), precision="fp16")
    batch = _batch()
    batch.image[:] = float("inf")
    assert stepper.step(batch, 0.1) != stepper.step(batch, 0.1)


def test_a_precision_that_is_given_is_not_tried_out(monkeypatch):
    def probed(*_: object) -> bool:
        raise AssertionError("probed")

    monkeypatch.setattr(device_module, "cpu_prefers_bf16", probed)
    assert _stepper(_net(), precision="bf16").precision == "bf16"
    config = TrainConfig(precision="fp32")
    assert Stepper(_net(), loss_for(config, ROLES), config, CPU).precision == "fp32"


@pytest.mark.parametrize(("prefers", "expected"), [(True, "bf16"), (False, "fp32")])
def test_precision_is_what_the_machine_is_faster_with(monkeypatch, prefers, expected):
    monkeypatch.setattr(device_module, "cpu_prefers_bf16", lambda: prefers)
    config = TrainConfig()
    stepper = Stepper(_net(), loss_for(config, ROLES), config, CPU)
    assert stepper.precision == expected


def test_a_network_with_valid_padding_learns_the_middle():
    net = _net(padding="valid", norm="none")
    batch = _batch(size=18)
    inside = batch.middle(net.output_size(18))
    loss = _stepper(net).step(batch, 0.0)
    with torch.no_grad():
        expected = weighted_cross_entropy(
            net(batch.image), inside.classes, inside.weights
        )
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_no_step_can_be_finished_twice():
    stepper = _stepper(_net())
    stepper.begin(_batch(), 0.1)
    stepper.finish()
    with pytest.raises(ValueError, match="begun"):
        stepper.finish()


def test_on_mps_steps_are_those_of_the_cpu_in_full_precision():
    # The same code, on tensors that lie on the CPU here.
    losses, config = [], TrainConfig(precision="fast")
    for device in (CPU, DeviceChoice("mps", "Apple GPU (MPS)")):
        precision = None if device.name == "mps" else "fp32"
        stepper = Stepper(_net(), loss_for(config, ROLES), config, device, precision)
        assert stepper.precision == "fp32"
        losses.append([stepper.step(_batch(), 0.01) for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
