"""The same network under the names of other programs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from napari_unet.config import NetworkConfig, NormalizationConfig
from napari_unet.errors import ModelError
from napari_unet.learning.networks import build_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

State = dict[str, "Tensor"]

# The members of our blocks: convolution, BatchNorm, ReLU, and the same again.
_PARTS = {"conv1": "0", "norm1": "1", "conv2": "3", "norm2": "4"}
_PARTS |= {number: number for number in _PARTS.values()}
# What BatchNorm counts; nothing depends on it here.
COUNTER = "num_batches_tracked"
_OURS = re.compile(r"(down|up|merge)\.\d+\.|head\.")


_BY_PERCENTILES = NormalizationConfig()


@dataclass(frozen=True)
class Layout:
    """How another program names the same network.

    Parameters
    ----------
    name : str
        Of the program.
    rules : tuple of (str, str)
        Pattern of a name's start, and the part of our network that it is. Of the
        groups `level` and `level_1` are levels, the finest being 0 and 1; `step_1`
        counts from 1 on the way up; `part` is a member of a block.
    up_first : bool
        Whether a block on the way up takes what comes up before what comes across.
    normalization : NormalizationConfig
        How that program scales images, in so far as this one can.
    values : tuple of float
        Which intensities become 0 and 1, for the policy "dataset": those of 8 bits.
    """

    name: str
    rules: tuple[tuple[str, str], ...]
    up_first: bool = False
    normalization: NormalizationConfig = _BY_PERCENTILES
    values: tuple[float, float] = (0.0, 255.0)


_PART_NUMBER = r"(?P<part>[0134])"
_PART_NAME = r"(?P<part>(?:conv|norm)[12])"


def _milesial(name: str, first: str, block: str, down: str) -> Layout:
    return Layout(
        name,
        (
            (rf"{first}\.{block}\.{_PART_NUMBER}", "first"),
            (rf"down(?P<level>\d+)\.{down}\.1\.{block}\.{_PART_NUMBER}", "down"),
            (r"up(?P<step_1>\d+)\.up", "up"),
            (rf"up(?P<step_1>\d+)\.conv\.{block}\.{_PART_NUMBER}", "merge"),
            (r"outc\.conv", "head"),
        ),
        normalization=NormalizationConfig(policy="dataset"),
    )


LAYOUTS = (
    _milesial("milesial/Pytorch-UNet", "inc", "double_conv", "maxpool_conv"),
    _milesial("milesial/Pytorch-UNet before 2020", r"inc\.conv", "conv", "mpconv"),
    Layout(
        "mateuszbuda/brain-segmentation-pytorch",
        (
            (rf"encoder(?P<level_1>\d+)\.enc\d+{_PART_NAME}", "down"),
            (rf"bottleneck\.bottleneck{_PART_NAME}", "bottom"),
            (r"upconv(?P<level_1>\d+)", "up"),
            (rf"decoder(?P<level_1>\d+)\.dec\d+{_PART_NAME}", "merge"),
            (r"conv", "head"),
        ),
        up_first=True,
        normalization=NormalizationConfig(policy="standardize"),
    ),
)
# What the groups of a rule count, as the index on the way down.
_LEVELS: dict[str, Callable[[int, int], int]] = {
    "level": lambda n, _: n,
    "level_1": lambda n, _: n - 1,
    "step_1": lambda n, depth: depth - n,
}


def to_ours(
    state: State, name: str, network: NetworkConfig | None = None
) -> tuple[Layout, NetworkConfig, State]:
    """Return the layout of these weights, their network, and them under our names.

    Parameters
    ----------
    state : dict of str to Tensor
        As the other program names them.
    name : str
        Of the file, for messages.
    network : NetworkConfig, optional
        The network, for weights under our own names.

    Raises
    ------
    ModelError
        Weights of no network that this program has (NU-M21).
    """
    if any(map(_OURS.match, state)) and not any(
        key.startswith("inc.") for key in state
    ):
        _check_are_real(state, name)
        config = network or _find_config(state, name)
        _compare(state, config, name)
        return Layout("napari-unet", ()), config, state
    layout = max(LAYOUTS, key=lambda layout: _n_known(state, layout))
    if _n_known(state, layout) < len(state) / 2:
        raise _not_a_unet(name, f"such as {_some(state)}")
    if not any(re.match(r"up(conv)?\d+(\.up)?\.weight", key) for key in state):
        raise _not_a_unet(
            name,
            f"it is the variant of {layout.name} with bilinear up-sampling, which is "
            "another network",
        )
    _check_are_real(state, name)
    renamed = _rename(state, layout, name)
    renamed = _fold_biases(renamed)
    config = _config_of(renamed, name)
    if layout.up_first:
        renamed = _skip_first(renamed)
    _compare(renamed, config, name)
    return layout, config, renamed


def _not_a_unet(name: str, why: str) -> ModelError:
    return ModelError(
        "NU-M21",
        f"{name} holds weights of no network that is known here ({why}): export it as "
        "ONNX and import that",
    )


def _check_are_real(state: State, name: str) -> None:
    odd = [
        key
        for key, value in state.items()
        if not value.is_floating_point()
        and (value.is_complex() or not key.endswith(COUNTER))
    ]
    if odd:
        kind = str(state[odd[0]].dtype).removeprefix("torch.")
        raise _not_a_unet(name, f"they are {kind}, not real numbers: {_some(odd)}")


def _some(names: Iterable[str]) -> str:
    first, *more = (ascii(name[:60]) for name in names)
    return ", ".join([first, *more[:2]]) + ", ..." * (len(more) > 2)


def _n_known(state: State, layout: Layout) -> int:
    return sum(_our_name(key, layout, 0) is not None for key in state)


def _our_name(key: str, layout: Layout, depth: int) -> str | None:
    """Return our name of a weight; None for one that isn't known."""
    start, _, last = key.rpartition(".")
    matches = ((re.fullmatch(pattern, start), to) for pattern, to in layout.rules)
    found, target = next(((m, to) for m, to in matches if m), (None, ""))
    if found is None:
        return None
    if target == "head":
        return f"head.{last}"
    groups = found.groupdict()
    part = f".{_PARTS[groups.pop('part')]}" if "part" in groups else ""
    level = depth if target == "bottom" else 0
    for group, number in groups.items():
        level = _LEVELS[group](int(number), depth)
    if target in ("up", "merge"):  # these are counted from the bottom
        return f"{target}.{depth - 1 - level}{part}.{last}"
    return f"down.{level}{part}.{last}"


def _rename(state: State, layout: Layout, name: str) -> State:
    depth = len({key.partition(".")[0] for key in state if re.match(r"up", key)})
    ours = {key: _our_name(key, layout, depth) for key in state}
    unknown = [key for key, own in ours.items() if own is None]
    if unknown:
        raise _not_a_unet(name, f"it has {_some(unknown)} beside {layout.name}")
    renamed = {own: state[key] for key, own in ours.items() if own is not None}
    # Files of the first PyTorch versions don't count batches.
    for key in [k for k in renamed if k.endswith("running_mean")]:
        counted = key.replace("running_mean", COUNTER)
        renamed.setdefault(counted, torch.tensor(0))
    return renamed


def _fold_biases(state: State) -> State:
    """Return weights in which BatchNorm's mean holds the bias of its convolution.

    (x + b - mean) is (x - (mean - b)): the same in use, and in training a bias before
    BatchNorm has no effect.
    """
    folded = dict(state)
    for conv, norm in (("0", "1"), ("3", "4")):
        for key in [k for k in state if re.fullmatch(rf"\w+\.\d+\.{conv}\.bias", k)]:
            mean = key.removesuffix(f"{conv}.bias") + f"{norm}.running_mean"
            if mean in folded and folded[mean].shape == state[key].shape:
                folded[mean] = folded[mean] - folded.pop(key)
    return folded


def _skip_first(state: State) -> State:
    """Return weights whose blocks take what comes across before what comes up."""
    swapped = dict(state)
    for key in [k for k in state if re.fullmatch(r"merge\.\d+\.0\.weight", k)]:
        up, skip = state[key].chunk(2, dim=1)
        swapped[key] = torch.cat([skip, up], dim=1)
    return swapped


def _config_of(state: State, name: str) -> NetworkConfig:
    """Return the network that renamed weights belong to, by their shapes."""
    levels = {int(k.split(".")[1]) for k in state if k.startswith("down.")}
    first, head = state.get("down.0.0.weight"), state.get("head.weight")
    if first is None or head is None or first.ndim not in (4, 5) or head.ndim < 2:
        raise _not_a_unet(name, "its first or last convolution is missing")
    return _made(
        name,
        base_width=first.shape[0],
        depth=max(levels),
        in_channels=first.shape[1],
        out_channels=head.shape[0],
        n_dims=first.ndim - 2,
        norm="batch" if "down.0.1.running_mean" in state else "none",
    )


def _made(name: str, **values: Any) -> NetworkConfig:
    try:
        return NetworkConfig(**values)
    except ValidationError as error:
        raise _not_a_unet(name, _wrong_size(error)) from error


def _wrong_size(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"])).replace("_", " ")
    wish = first["msg"].removeprefix("Input should be ")
    return f"its {field} is {first['input']} and should be {wish}"


def _find_config(state: State, name: str) -> NetworkConfig:
    """Return the settings whose network has these names and shapes.

    Of several the first: weights don't tell "same" from "valid" padding, nor GroupNorm
    from InstanceNorm.
    """
    first = next((v for k, v in state.items() if k.startswith("down.0.")), None)
    head = state.get("head.weight", state.get("head.0.weight"))
    if first is None or head is None or first.ndim not in (4, 5):
        raise _not_a_unet(name, f"such as {_some(state)}")
    n_dims = first.ndim - 2
    depth = max(int(k.split(".")[1]) for k in state if re.match(r"down\.\d+\.", k))
    shapes = {key: value.shape for key, value in state.items()}
    for architecture, norm, up, skips, upscale in product(
        ("unet", "residual_unet", "attention_unet"),
        ("batch", "group", "instance", "none"),
        ("transposed", "linear"),
        ("concatenate", "sum"),
        (1,) if "head.weight" in state else (2, 4),
    ):
        config = _made(
            name,
            architecture=architecture,
            base_width=first.shape[0],
            depth=depth,
            norm=norm,
            up=up,
            skips=skips,
            in_channels=first.shape[1],
            out_channels=max(head.shape[0] // upscale**n_dims, 1),
            n_dims=n_dims,
            upscale=upscale,
        )
        if _shapes(config) == shapes:
            return config
    raise _not_a_unet(name, "its names are this program's but its shapes are not")


def _shapes(config: NetworkConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        state = build_network(config).state_dict()
    return {key: value.shape for key, value in state.items()}


def _compare(state: State, config: NetworkConfig, name: str) -> None:
    expected = _shapes(config)
    found = {key: value.shape for key, value in state.items()}
    if found != expected:
        differ = sorted(set(found) ^ set(expected)) or sorted(
            key for key in found if found[key] != expected[key]
        )
        told = (
            "1 weight doesn't" if len(differ) == 1 else f"{len(differ)} weights don't"
        )
        raise _not_a_unet(name, f"{told} fit: {_some(differ)}")
