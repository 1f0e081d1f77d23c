"""A trained network with all that is needed to use it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from napari_unet.config import (
    ForeignConfig,
    InstanceConfig,
    NetworkConfig,
    NormalizationConfig,
    TrainConfig,
    WeightConfig,
)
from napari_unet.learning.networks import build_network

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from napari_unet.events import Region
    from napari_unet.imaging.intensity import IntensityRange
    from napari_unet.learning.networks.network import Network

    # Of each tensor its shape and dtype.
    TensorKinds = dict[str, tuple[tuple[int, ...], torch.dtype]]


@dataclass(frozen=True)
class Look:
    """What one validation saw during training.

    Parameters
    ----------
    step : int
        Training steps done by then.
    loss : float, optional
        Training loss of the last step; None before the first.
    validation_loss : float
        Loss on the held-back pixels.
    score : float
        Score on the held-back pixels by which the best model is chosen.
    """

    step: int
    loss: float | None
    validation_loss: float
    score: float


@dataclass(frozen=True)
class Origin:
    """A model that another one was trained on from, and whom it is owed to.

    Parameters
    ----------
    sha256 : str
        Of its weights (see `weights_sha256`).
    authors : tuple of str
        Its authors.
    license : str
        Its licence, as an SPDX id; empty where none is known.
    """

    sha256: str
    authors: tuple[str, ...] = ()
    license: str = ""


@dataclass(frozen=True)
class Round:
    """What one training reached: a point of the learning curve over the annotations.

    Parameters
    ----------
    n_cells : int
        Annotated cells that were learned from.
    score : float
        Of the tuned model, on what was held back.
    n_held_back : int
        Cells, or images, that the score rests on.
    held_back : str
        sha256 of what was held back: scores on other pixels are no one curve.
    name : str
        Which score it is, as in `TrainConfig.choose_by`.
    """

    n_cells: int
    score: float
    n_held_back: int
    held_back: str = ""
    name: str = "score"


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network with all that is needed to use it.

    Parameters
    ----------
    network : NetworkConfig or ForeignConfig
        Shape of the network, or what is known of the graph of another program.
    state : mapping of str to Tensor
        Its weights, on the CPU.
    roles : tuple of str
        What each output channel means, such as ``"softmax:cell"``.
    class_names : tuple of str
        Background first.
    training, weights, instances, normalization
        The settings that made the model, and how to use it.
    dataset_range : IntensityRange, optional
        Range over the training images, for normalisation policy "dataset".
    typical_span : tuple of float
        Median span (high - low) of the training images, per channel, and the dtype
        that they had: an image of a far smaller span may be empty.
    image_dtype : str
        dtype of the training images.
    channel_names : tuple of str
        Of the training images, where known.
    pixel_size_um : tuple of float, optional
        Of the training images ([Z,] Y, X), in micrometres.
    cell_diameter_px : float, optional
        Diameter of a typical annotated cell, of a circle of its area, in pixels of the
        training images; `napari_unet.imaging.cell_size.typical_diameter`.
    scale : float
        Pixels that the network sees for each pixel of the training images. In its
        pixels are the sizes in `instances`.
    scales_by_cells : bool
        Whether each training image had a scale of its own, at which its cells were as
        large as those of all others.
    value_range : IntensityRange, optional
        Of a model that makes images: what 0 and 1 of each value stand for, in the
        units of the images that it learned to make. Without one its outputs are taken
        as they are.
    values_follow_image : bool
        Whether `value_range` is in shares of the range of the image that they are made
        from, 0 its low end and 1 its high end: what is twice as bright comes out twice
        as bright.
    scores : mapping of str to float
        On the held-back pixels.
    n_train_images : int
        Number of images that were learned from.
    step : int
        Training step of these weights.
    class_colors : tuple of str
        Colour of each class as ``"#rrggbb"``, background first; empty where nobody
        chose any.
    axes : str
        Axes of one input: ``"CYX"`` or, for a network of volumes, ``"CZYX"``; empty
        takes the network's.
    fingerprint : str
        sha256 of the training data in hex, whatever the order of the images; empty
        where unknown.
    license : str
        Under which the model may be used, as an SPDX id such as ``"CC-BY-4.0"``.
    authors : tuple of str
        Who made it.
    about : str
        What it is for, in words.
    derived_from : tuple of Origin
        Models that this one was trained on from: the one before, and each earlier one
        that names authors or a licence.
    history : tuple of Look
        The validations during training.
    rounds : tuple of Round
        What each training reached so far, oldest first.
    held_back : tuple of Region
        What the last one validated on, and never learned from.
    validated_on : str
        The same in words.
    versions : mapping of str to str
        Of the libraries that wrote the model's file; empty before it is saved.
    """

    network: NetworkConfig | ForeignConfig
    state: Mapping[str, Tensor] = field(repr=False)
    roles: tuple[str, ...] = ("softmax:background", "softmax:cell")
    class_names: tuple[str, ...] = ("background", "cell")
    training: TrainConfig = field(default_factory=TrainConfig)
    weights: WeightConfig = field(default_factory=WeightConfig)
    instances: InstanceConfig = field(default_factory=InstanceConfig)
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)
    dataset_range: IntensityRange | None = None
    typical_span: tuple[float, ...] = ()
    image_dtype: str = ""
    channel_names: tuple[str, ...] = ()
    pixel_size_um: tuple[float, ...] | None = None
    cell_diameter_px: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    n_train_images: int = 0
    step: int = 0
    class_colors: tuple[str, ...] = ()
    axes: str = ""
    fingerprint: str = ""
    license: str = ""
    authors: tuple[str, ...] = ()
    about: str = ""
    derived_from: tuple[Origin, ...] = ()
    history: tuple[Look, ...] = ()
    scale: float = 1.0
    scales_by_cells: bool = False
    value_range: IntensityRange | None = None
    values_follow_image: bool = False
    rounds: tuple[Round, ...] = ()
    held_back: tuple[Region, ...] = ()
    validated_on: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.axes:
            axes = "CZYX" if self.network.n_dims == 3 else "CYX"
            object.__setattr__(self, "axes", axes)

    @property
    def n_channels(self) -> int:
        """Number of image channels that the model takes."""
        return self.network.in_channels

    @property
    def working_cell_px(self) -> float | None:
        """Diameter of a typical cell in pixels that the network sees, where known."""
        size = self.cell_diameter_px
        return None if size is None else size * self.scale

    def build(self) -> Network:
        """Return the network with the model's weights, on the CPU, ready to predict."""
        network = _on_no_device(self.network).to_empty(device="cpu").float()
        network.load_state_dict(dict(self.state))
        return network.eval()


class _NothingDrawn(TorchFunctionMode):
    """Leave out the drawing of weights inside.

    On the meta device it would change nothing, but torch would first import its
    decompositions, which takes seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Return the tensor as it is instead of drawing its content."""
        kwargs = kwargs or {}
        if func.__name__ in _DRAWING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


_DRAWING = {
    "normal_",
    "uniform_",
    "trunc_normal_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "xavier_normal_",
    "xavier_uniform_",
}


def _on_no_device(config: NetworkConfig | ForeignConfig) -> Network:
    # Real weights would take memory, and drawing them disturb the random state.
    with torch.device("meta"), _NothingDrawn():
        return build_network(config)


def expected_tensors(config: NetworkConfig | ForeignConfig) -> TensorKinds:
    """Return the shape and dtype of each weight of a network; allocates nothing."""
    return {
        name: (
            tuple(tensor.shape),
            # Whatever the process's default dtype, models are stored in float32.
            torch.float32 if tensor.is_floating_point() else tensor.dtype,
        )
        for name, tensor in _on_no_device(config).state_dict().items()
    }


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, dtypes, shapes and bytes of tensors, in hex."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
