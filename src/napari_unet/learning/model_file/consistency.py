"""Whether what is said of a model fits its network: lengths, order, kinds of outputs.

Types and bounds of single fields are in `napari_unet.learning.model_file.description`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.learning.applying.outputs import KINDS, is_of_softmax, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.learning.model_file.description import Description


def contradiction(about: Description) -> str:
    """Return what contradicts what in a description: one clause, empty if nothing.

    It begins with the name of the field. The number of roles is not looked at: that
    is compared with the network together with the weights.
    """
    return next(_contradictions(about), "")


def _contradictions(about: Description) -> Iterator[str]:
    yield from _of_outputs(about)
    yield from _of_intensities(about)
    yield from _of_values(about)
    yield from _of_rounds(about)
    yield from _of_sums(about)
    own_axes = "CZYX" if about.network.n_dims == 3 else "CYX"
    if about.axes != own_axes:
        yield f"axes: {about.axes!r}, where its network takes {own_axes!r}"
    if about.scales_by_cells and about.cell_diameter_px is None:
        yield "scales_by_cells: true, where the size of its cells is not known"
    if any(not 0 <= look.step < 2**63 for look in about.history):
        yield "history: a step that no training reaches"


def _of_outputs(about: Description) -> Iterator[str]:
    known = ", ".join(KINDS)
    for role in about.roles:
        if kind_of(role) is None:
            yield f"roles: {role!r} is of an unknown kind, not one of {known}"
    # Boundaries between cells are an output, but no class that anybody painted.
    n_outputs = about.network.out_channels - about.roles.count("softmax-boundary")
    n_classes = len(set(about.class_names))
    # A value or a probability of another program may well belong to no class.
    if all(is_of_softmax(role) for role in about.roles) and n_classes != n_outputs:
        yield f"class_names: {n_classes} different, where its network has {n_outputs}"
    n_colors, n_names = len(about.class_colors), len(about.class_names)
    if n_colors not in {0, n_names}:
        yield f"class_colors: {n_colors}, where it has {n_names} classes"


def _of_rounds(about: Description) -> Iterator[str]:
    counts = [n for r in about.rounds for n in (r.n_cells, r.n_held_back)]
    if any(not 0 <= n < 2**63 for n in counts):
        yield "rounds: a number of cells that none can have"
    lengths = [n for r in about.held_back for n in (*r.plane, *r.start, *r.shape)]
    if any(not 0 <= n < 2**63 for n in lengths):
        yield "held_back: a region that no image has"


def _of_values(about: Description) -> Iterator[str]:
    n_values, span = sum(r.startswith("value:") for r in about.roles), about.value_range
    if span is None:
        return
    if {len(ends) for ends in span} != {n_values}:
        lengths = " and ".join(str(len(ends)) for ends in span)
        yield f"value_range: of {lengths} values, where it has {n_values}"
    elif any(low >= high for low, high in zip(*span, strict=True)):
        yield "value_range: low ends that are not below high ones"
    elif about.values_follow_image and n_values != about.network.in_channels:
        n = about.network.in_channels
        yield f"values_follow_image: {n_values} values can't follow {n} channels"


def _of_sums(about: Description) -> Iterator[str]:
    network = about.network
    is_sum = network.architecture != "foreign" and network.adds_image
    if is_sum and network.in_channels != network.out_channels:
        n, wanted = network.out_channels, network.in_channels
        yield f"network.adds_image: its {n} outputs can't be added to {wanted} channels"


def _of_intensities(about: Description) -> Iterator[str]:
    n_channels, span = about.network.in_channels, about.dataset_range
    if about.normalization.policy == "dataset" and span is None:
        yield "dataset_range: none, where the normalisation 'dataset' needs one"
    if span is not None:
        if {len(ends) for ends in span} != {n_channels}:
            lengths = " and ".join(str(len(ends)) for ends in span)
            yield f"dataset_range: of {lengths} channels, its network of {n_channels}"
        elif any(low > high for low, high in zip(*span, strict=True)):
            yield "dataset_range: low ends above high ones"
        elif span[0] == span[1]:
            yield "dataset_range: low and high ends are the same in all channels"
    n_spans = len(about.typical_span)
    if n_spans not in {0, n_channels}:
        yield f"typical_span: of {n_spans} channels, its network of {n_channels}"
