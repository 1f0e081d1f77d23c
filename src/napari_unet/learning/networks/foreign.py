"""The network of another program, run as the graph that it was saved as."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from napari_unet.errors import ConfigError, ModelError, ResourceError
from napari_unet.files.trusted import is_trusted
from napari_unet.learning.networks.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.config import ForeignConfig

    Run = Callable[[Tensor], Tensor]


class ForeignNetwork(Network):
    """A graph of ONNX, or of TorchScript, which is a program that must be trusted.

    The graph's bytes are the only tensor of its state dict. It runs in float32: ONNX on
    the CPU, TorchScript on the device of its input. Nothing runs before the first
    forward pass.

    Parameters
    ----------
    config : ForeignConfig
        What is known of the graph.
    """

    def __init__(self, config: ForeignConfig) -> None:
        super().__init__()
        self.foreign = config
        self.config = cast("Any", config)
        self.graph: Tensor
        self.register_buffer("graph", torch.empty(config.n_bytes, dtype=torch.uint8))
        self._run: Run | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A running graph can't be copied; the copy starts its own.
        return {**self.__dict__, "_run": None}

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, C, [Z,] Y, X) to outputs (N, K, [s Z,] s Y, s X), float32.

        Raises
        ------
        ModelError
            A program that nobody trusted (NU-M24), or a graph that can't be run or
            gives something else than was declared (NU-M23).
        ResourceError
            onnxruntime is not installed (NU-R10).
        """
        outputs = self.run(image)
        self._check(image, outputs)
        return outputs

    def run(self, image: Tensor) -> Tensor:
        """Return outputs as `forward` does, of whatever size they are.

        Raises
        ------
        ModelError, ResourceError
            As in `forward`.
        """
        if self._run is None:
            self._run = _start(self.graph, self.foreign)
        given = image.float()
        low, high = self.foreign.clip
        if low is not None or high is not None:
            given = given.clamp(low, high)
        # A graph without a batch axis takes one image at a time.
        has_batch = "N" in self.foreign.input_axes
        batches = [given] if has_batch else [image[None] for image in given]
        return torch.cat([self._outputs_of(batch, self._run) for batch in batches])

    def _outputs_of(self, image: Tensor, run: Run) -> Tensor:
        own = "NC" + "ZYX"[-self.foreign.n_dims :]
        output = run(_to_axes(image, own, self.foreign.input_axes))
        axes = self.foreign.output_axes
        if output.ndim != len(axes):
            raise _does_not_fit(f"outputs of shape {tuple(output.shape)}, not {axes}")
        return _to_axes(output.float(), axes, own).to(image.device)

    def _check(self, image: Tensor, outputs: Tensor) -> None:
        sizes = [self.output_size(n) for n in image.shape[2:]]
        expected = (len(image), self.foreign.out_channels, *sizes)
        if tuple(outputs.shape) != expected:
            raise _does_not_fit(
                f"an output of shape {tuple(outputs.shape)} for an input of "
                f"{tuple(image.shape)}, not {expected}"
            )

    @property
    def multiple(self) -> int:
        """What sizes of inputs are multiples of, in pixels."""
        return self.foreign.multiple

    @property
    def halo(self) -> int | None:
        """Context in pixels that an aligned region needs; None where nobody knows."""
        halo = self.foreign.halo
        return None if halo is None else -(-halo // self.multiple) * self.multiple

    @property
    def margin(self) -> int:
        """Pixels lost on each side."""
        return self.foreign.shrink

    @property
    def fixed_size(self) -> int | None:
        """The only size of an input that the graph takes, if there is only one."""
        return self.foreign.fixed_size

    def output_size(self, n: int) -> int:
        """Return the output size along an axis for the input size `n`.

        Raises
        ------
        ConfigError
            The graph takes no input of size `n` (NU-C06).
        """
        following = self._allowed(n)
        if following != n:
            raise ConfigError(
                "NU-C06",
                f"the network takes no input of {n} pixels: the next size is "
                f"{following}",
            )
        return (n - 2 * self.margin) * self.foreign.upscale

    def input_size_for(self, n: int) -> int:
        """Return the smallest allowed input size whose output has >= `n` pixels.

        The fixed size, where there is one, even if its output is smaller.
        """
        return self._allowed(-(-n // self.foreign.upscale) + 2 * self.margin)

    def _allowed(self, n: int) -> int:
        if self.fixed_size is not None:
            return self.fixed_size
        # Valid networks take min_size + k * multiple, the others multiples.
        least = max(self.foreign.min_size, 2 * self.margin + 1)
        rest = self.foreign.min_size % self.multiple
        return -(-(max(n, least) - rest) // self.multiple) * self.multiple + rest


def _to_axes(tensor: Tensor, axes: str, wanted: str) -> Tensor:
    """Return a tensor with its axes in another order; one of length 1 may come or go.

    Raises
    ------
    ModelError
        An axis that would have to go is longer than 1 (NU-M23).
    """
    for axis in set(axes) - set(wanted):
        at = axes.index(axis)
        if tensor.shape[at] != 1:
            raise _does_not_fit(f"{tensor.shape[at]} along {axis}, not 1")
        tensor, axes = tensor.squeeze(at), axes.replace(axis, "")
    for axis in set(wanted) - set(axes):
        tensor, axes = tensor.unsqueeze(0), axis + axes
    return tensor.permute(*(axes.index(axis) for axis in wanted))


def _does_not_fit(what: str) -> ModelError:
    return ModelError(
        "NU-M23",
        f"the network of the other program gives {what}: ask its authors to correct "
        "its description",
    )


def _start(graph: Tensor, config: ForeignConfig) -> Run:
    content = graph.cpu().numpy().tobytes()
    if config.format == "onnx":
        return _start_onnx(content, config)
    return _start_torchscript(content)


def _start_onnx(content: bytes, config: ForeignConfig) -> Run:
    session = onnx_session(content)
    name = config.input_name or session.get_inputs()[0].name
    output = config.output_name or session.get_outputs()[0].name

    def run(image: Tensor) -> Tensor:
        given = np.ascontiguousarray(image.cpu().numpy())
        try:
            return torch.from_numpy(session.run([output], {name: given})[0])
        except onnx_errors() as error:
            raise _failed(error) from error

    return run


def onnx_session(content: bytes) -> Any:
    """Return onnxruntime's session of a graph, on the CPU.

    Raises
    ------
    ResourceError
        onnxruntime is not installed (NU-R10).
    ModelError
        No ONNX graph, or one that onnxruntime can't run (NU-M23).
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise ResourceError(
            "NU-R10",
            "this model is an ONNX graph, which onnxruntime runs, and that can't be "
            "found: install it with pip install 'napari-unet-loop[onnx]'",
        )
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised as well
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
    except onnx_errors() as error:
        raise _failed(error) from error


def onnx_errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type)]
    kinds = [kind for kind in own if issubclass(kind, Exception)]
    return (*kinds, RuntimeError, ValueError)


def _failed(error: Exception) -> ModelError:
    said = " ".join(str(error).split())[:200]
    return ModelError(
        "NU-M23",
        f"the network of the other program can't be run ({said}): ask its authors for "
        "a file that is whole",
    )


def _start_torchscript(content: bytes) -> Run:
    if not is_trusted(hashlib.sha256(content).hexdigest()):
        raise ModelError(
            "NU-M24",
            "this model is a TorchScript program, which can read and write files: if "
            "you trust where it comes from, import its file with --trust",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript itself
            script = torch.jit.load(BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]
        script.eval()
    except (RuntimeError, ValueError, EOFError) as error:
        raise _failed(error) from error

    def run(image: Tensor) -> Tensor:
        try:
            output = script.to(image.device)(image)
        except (RuntimeError, TypeError, ValueError) as error:
            raise _failed(error) from error
        if isinstance(output, (tuple, list)) and output:
            output = output[0]
        if not isinstance(output, Tensor):
            raise _does_not_fit("no tensor")
        return output

    return run
