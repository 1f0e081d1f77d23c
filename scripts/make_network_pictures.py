"""Draw the architecture of each network into docs/images/networks.

Widths and sizes are read off the built network by hooks, in a forward pass on torch's
meta device, which allocates nothing.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from napari_unet.config import NetworkConfig
from napari_unet.learning.networks import Network, build_network

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = Path(__file__).parents[1] / "docs" / "images" / "networks"

# By name: what is drawn, and the side of the image that it is drawn for.
PICTURES: dict[str, tuple[NetworkConfig, int]] = {
    "unet": (NetworkConfig.ronneberger2015(), 572),
    "default": (NetworkConfig(), 256),
    "residual_unet": (NetworkConfig(architecture="residual_unet"), 256),
    "attention_unet": (NetworkConfig.oktay2018(), 160),
    "trans_unet": (NetworkConfig.chen2021(), 224),
    "image_to_image": (NetworkConfig(upscale=2, out_channels=1), 128),
}

BLUE, RED, GREEN, GREY = "#3b6fb5", "#c8443c", "#3d8f58", "#8a8a8a"
TEAL, ORANGE, PURPLE, INK = "#2a9d9d", "#dd8a1c", "#8457a8", "#222222"
COLORS = {
    "convolution": BLUE,
    "down": RED,
    "up": GREEN,
    "skip": GREY,
    "pointwise": TEAL,
    "gate": ORANGE,
    "shortcut": PURPLE,
    "transformer": ORANGE,
    "shuffle": PURPLE,
}
NORMS = {"batch": "BatchNorm", "group": "GroupNorm", "instance": "InstanceNorm"}

# Between boxes, and the height of the finest level, in units of so many inches.
GAP, LEVEL, SHRINK = 0.42, 1.7, 0.8
INCHES = 0.56


@dataclass
class Box:
    """Features as they are drawn: their channels, and their side in pixels."""

    channels: int
    side: int
    by: str = ""  # what made them of the box to the left
    across: int = 0  # how many of the channels came across by a skip
    x: float = 0.0
    y: float = 0.0
    height: float = 0.0

    @property
    def width(self) -> float:
        """More channels are wider, by their logarithm."""
        return 0.08 + 0.05 * float(torch.log2(torch.tensor(self.channels)))

    @property
    def right(self) -> float:
        """The right edge."""
        return self.x + self.width

    @property
    def middle(self) -> float:
        """Half way up."""
        return self.y + self.height / 2


@dataclass
class Drawing:
    """The boxes of each level on the way down and up, the finest level first."""

    down: list[list[Box]]
    up: list[list[Box]]  # has one level less
    gated: set[int] = field(default_factory=set)
    is_residual: bool = False


class Shapes:
    """The shapes that each module of a network took and gave, by its name."""

    def __init__(self, config: NetworkConfig, side: int) -> None:
        with torch.device("meta"):
            self.network: Network = build_network(config).eval()
            image = torch.empty(1, config.in_channels, *[side] * config.n_dims)
        self.image = Box(config.in_channels, side)
        self.took: dict[str, Any] = {}
        self.gave: dict[str, Any] = {}
        for name, module in self.network.named_modules():
            module.register_forward_hook(self._hook(name))
        self.network(image)

    def _hook(self, name: str) -> Any:
        def keep(_: Any, given: Any, gave: Any) -> None:
            if isinstance(gave, torch.Tensor):
                self.took[name] = given[0].shape
                self.gave[name] = gave.shape

        return keep

    def box(self, name: str, by: str) -> Box:
        """Return what a module gave."""
        shape = self.gave[name]
        return Box(shape[1], shape[-1], by)

    def joined(self, name: str, across: int) -> Box:
        """Return what a module took, of which so many channels came across."""
        shape = self.took[name]
        return Box(shape[1], shape[-1], "join", across)

    def convolutions(self, name: str) -> list[Box]:
        """Return what each 3x3 convolution of a block gave."""
        block: Any = self.network.get_submodule(name)
        return [
            self.box(f"{name}.{each}", "convolution")
            for each, module in block.named_modules()
            if getattr(module, "kernel_size", (0,))[0] == 3
        ]


def read_unet(config: NetworkConfig, side: int) -> Drawing:
    """Read a U-Net, residual or gated or neither."""
    shapes = Shapes(config, side)
    net: Any = shapes.network
    depth = config.depth
    down = [shapes.convolutions(f"down.{level}") for level in range(depth + 1)]
    down[0].insert(0, shapes.image)
    for level in range(1, depth + 1):
        pooled = shapes.took[f"down.{level}"]
        down[level].insert(0, Box(pooled[1], pooled[-1]))
    up = []
    for level in range(depth):
        name = f"merge.{depth - 1 - level}"
        across = down[level][-1].channels if config.skips == "concatenate" else 0
        row = [shapes.joined(name, across), *shapes.convolutions(name)]
        up.append(row)
    up[0].append(shapes.box("head.0" if config.upscale > 1 else "head", "pointwise"))
    if config.upscale > 1:
        up[0].append(shapes.box("head.1", "shuffle"))
    n_gates = len(getattr(net, "gates", ()))
    gated = set(range(depth - n_gates, depth))
    return Drawing(down, up, gated, config.architecture == "residual_unet")


def read_trans_unet(config: NetworkConfig, side: int) -> Drawing:
    """Read a TransU-Net: a ResNet, a transformer and a decoder."""
    shapes = Shapes(config, side)
    side_at_bottom = shapes.gave["embed"][-1]
    tokens = Box(shapes.gave["embed"][1], side_at_bottom, "transformer")
    down = [[shapes.image], [shapes.box("stem", "")]]
    down += [[shapes.box(f"stages.{i}", "")] for i in range(3)]
    bottom = [shapes.box("embed", "pointwise"), tokens]
    down[4] += [*bottom, *shapes.convolutions("bottom")]
    up = []
    for level in range(4):
        name = f"merge.{3 - level}"
        across = down[level][-1].channels if level else 0
        up.append([shapes.joined(name, across), *shapes.convolutions(name)])
    up[0].append(shapes.box("head", "convolution"))
    return Drawing(down, up)


def place(drawing: Drawing) -> None:
    """Give each box its place: down by the left side of the U, up by the right."""
    x = 0.0
    heights = [LEVEL * SHRINK**level for level in range(len(drawing.down))]
    tops = [-sum(heights[:level]) - 0.95 * level for level in range(len(heights))]
    for level, row in enumerate(drawing.down):
        x = _place_row(row, x, tops[level], heights[level])
    for level, row in reversed(list(enumerate(drawing.up))):
        x = _place_row(row, x, tops[level], heights[level])


def _place_row(row: list[Box], x: float, top: float, height: float) -> float:
    """Place the boxes of a row beside each other; return where the last one is."""
    for box in row:
        box.x, box.y, box.height = x, top - height, height
        x = box.right + GAP
    return row[-1].x


def draw(drawing: Drawing, config: NetworkConfig) -> Figure:
    """Draw a placed network, with its legend."""
    boxes = [box for row in [*drawing.down, *drawing.up] for box in row]
    right = max(box.right for box in boxes)
    bottom = min(box.y for box in boxes)
    figure = plt.figure(figsize=(INCHES * (right + 1.1), INCHES * (1.2 - bottom)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.6, right + 0.5), ylim=(bottom - 0.6, 0.6), aspect="equal")
    axes.set_axis_off()
    power = {2: "²", 3: "³"}[config.n_dims]
    for row in [*drawing.down, *drawing.up]:
        _draw_row(axes, row, power)
    _draw_between_levels(axes, drawing)
    _draw_skips(axes, drawing)
    if drawing.is_residual:
        for row in [*drawing.down, *drawing.up]:
            _draw_shortcut(axes, row)
    _draw_legend(axes, drawing, config)
    return figure


def _draw_row(axes: Axes, row: list[Box], power: str) -> None:
    for left, box in pairwise(row):
        _arrow(axes, (left.right, box.middle), (box.x, box.middle), COLORS[box.by])
    before = None
    for box in row:
        face = "#fbe3c4" if box.by == "transformer" else "#cfe0f5"
        corner = (box.x, box.y)
        style = {"linewidth": 0.8, "edgecolor": INK, "zorder": 3}
        axes.add_patch(
            Rectangle(corner, box.width, box.height, facecolor=face, **style)
        )
        if box.across:
            width = box.width * box.across / box.channels
            axes.add_patch(
                Rectangle(corner, width, box.height, facecolor="white", **style)
            )
        x = box.x + box.width / 2
        axes.text(
            x, box.y + box.height + 0.07, f"{box.channels}", ha="center", fontsize=7
        )
        if box.side != before:
            text = f"{box.side}{power}"
            axes.text(x, box.y - 0.24, text, ha="center", fontsize=6, color="#555555")
        before = box.side


def _draw_between_levels(axes: Axes, drawing: Drawing) -> None:
    for upper, lower in pairwise(drawing.down):
        x = lower[0].x + min(lower[0].width, upper[-1].width) / 2
        start, stop = (x, upper[-1].y - 0.3), (x, lower[0].y + lower[0].height + 0.28)
        _arrow(axes, start, stop, RED)
    for upper, lower in pairwise([*drawing.up, drawing.down[-1]]):
        x = lower[-1].x + lower[-1].width / 2
        start, stop = (x, lower[-1].y + lower[-1].height + 0.28), (x, upper[0].y - 0.3)
        _arrow(axes, start, stop, GREEN)


def _draw_skips(axes: Axes, drawing: Drawing) -> None:
    for level, row in enumerate(drawing.up):
        start, stop = drawing.down[level][-1], row[0]
        if level == 0 and len(drawing.down[0]) == 1:
            continue  # the image itself is no skip
        at = (stop.x, start.middle)
        if level not in drawing.gated:
            _arrow(axes, (start.right, start.middle), at, GREY)
            continue
        x, radius = stop.x - 0.75, 0.2
        below = (
            drawing.up[level + 1] if level + 1 < len(drawing.up) else drawing.down[-1]
        )
        _arrow(axes, (start.right, start.middle), (x - radius, start.middle), GREY)
        _arrow(axes, (x + radius, start.middle), at, GREY)
        _draw_gate(axes, (x, start.middle), radius, below[-1])


def _draw_gate(axes: Axes, at: tuple[float, float], radius: float, gating: Box) -> None:
    style = {"facecolor": "#fbe3c4", "edgecolor": ORANGE, "linewidth": 1}
    axes.add_patch(Circle(at, radius, zorder=4, **style))
    axes.text(*at, "α", ha="center", va="center", fontsize=8, color=INK, zorder=5)
    # Out of the gating features, up beside them, along between the levels, and up.
    x, top, between = gating.x - 0.1, gating.y + gating.height, 0.5
    style = {"color": ORANGE, "linewidth": 1, "linestyle": (0, (2.5, 1.2))}
    xs, ys = [gating.x, x, x, at[0]], [top - 0.12] * 2 + [top + between] * 2
    axes.plot(xs, ys, **style, zorder=2)
    _arrow(axes, (at[0], top + between), (at[0], at[1] - radius), ORANGE, "dashed")


def _draw_shortcut(axes: Axes, row: list[Box]) -> None:
    """Draw what passes the two convolutions of a residual block by."""
    convolved = [i for i, box in enumerate(row) if box.by == "convolution"]
    start, stop = row[convolved[0] - 1], row[convolved[-1]]
    axes.add_patch(
        FancyArrowPatch(
            (start.right, start.y + start.height + 0.12),
            (stop.x, stop.y + stop.height + 0.12),
            arrowstyle="-|>",
            mutation_scale=7,
            color=PURPLE,
            linewidth=1,
            shrinkA=0,
            shrinkB=0,
            connectionstyle="arc3,rad=-0.3",
            zorder=2,
        )
    )


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    stop: tuple[float, float],
    color: str,
    linestyle: str = "solid",
) -> None:
    axes.annotate(
        "",
        stop,
        start,
        arrowprops={
            "arrowstyle": "-|>",
            "color": color,
            "linestyle": linestyle,
            "linewidth": 1.2,
            "shrinkA": 0.5,
            "shrinkB": 0.5,
            "mutation_scale": 7,
        },
        zorder=2,
    )


def _legend(drawing: Drawing, config: NetworkConfig) -> list[tuple[str, str]]:
    """Return the colour and the words of each kind of arrow."""
    size = "3×3" if config.n_dims == 2 else "3×3×3"
    norm = f" + {NORMS[config.norm]}" if config.norm != "none" else ""
    padding = ", unpadded" if config.padding == "valid" else ""
    is_bare = config.architecture in ("attention_unet", "trans_unet")
    linear = "linear up-sampling" + ("" if is_bare else " + convolution")
    transposed = f"up-convolution {size.replace('3', '2')}"
    across = "copy" if config.skips == "concatenate" else "add"
    crop = " and crop" if config.padding == "valid" else ""
    is_trans = config.architecture == "trans_unet"
    pool = f"max-pooling {size.replace('3', '2')}"
    rows = [
        (BLUE, f"convolution {size}{padding}{norm} + ReLU"),
        (RED, "7×7 convolution, then residual stages" if is_trans else pool),
        (GREEN, transposed if config.up == "transposed" else linear),
        (GREY, across + crop),
        (TEAL, "convolution " + size.replace("3", "1")),
    ]
    if drawing.gated:
        rows.append((ORANGE, "attention gate α, and its gating signal"))
    if is_trans:
        rows.append((ORANGE, f"transformer, {config.transformer_layers} layers"))
    if drawing.is_residual:
        rows.append((PURPLE, "shortcut, added"))
    if config.upscale > 1:
        rows.append((PURPLE, f"pixel shuffle by {config.upscale}"))
    return rows


def _draw_legend(axes: Axes, drawing: Drawing, config: NetworkConfig) -> None:
    rows = _legend(drawing, config)
    handles = [Line2D([], [], color=color, linewidth=1.6) for color, _ in rows]
    axes.legend(
        handles,
        [words for _, words in rows],
        loc="lower right",
        fontsize=7,
        frameon=False,
        handlelength=1.6,
    )


def main(names: list[str]) -> None:
    """Draw the named networks, or all."""
    mpl.rcParams["font.family"] = "DejaVu Sans"
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names or PICTURES:
        config, side = PICTURES[name]
        is_trans = config.architecture == "trans_unet"
        drawing = (read_trans_unet if is_trans else read_unet)(config, side)
        place(drawing)
        figure = draw(drawing, config)
        figure.savefig(FOLDER / f"{name}.png", dpi=160, facecolor="white")
        plt.close(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
