"""`napari-unet train`: images and masks to a model."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from napari_unet.cli import console
from napari_unet.cli.drawing import draw_training
from napari_unet.cli.flags import (
    FILES,
    Axes,
    Channels,
    InputFolder,
    Network,
    NetworkFlags,
    OptionalInputFolder,
    Output,
    Pattern,
    Training,
    Weights,
    channel_list,
)
from napari_unet.cli.folders import prepare_model_file
from napari_unet.cli.settings import (
    UsageError,
    flag_of,
    merge,
    read_settings,
)
from napari_unet.config import NetworkConfig, TrainConfig, WeightConfig
from napari_unet.errors import FolderError
from napari_unet.events import Event, Mailbox
from napari_unet.files.folders import find_images
from napari_unet.files.model_places import shipped_model
from napari_unet.files.pairs import as_files, find_pairs
from napari_unet.learning.loop import launched

_Pairs = list[tuple[Path, Path]]
_IMAGENET = "imagenet"


def train(  # noqa: PLR0913 - one parameter a flag
    *,
    images: InputFolder,
    out: Output,
    masks: OptionalInputFolder = None,
    targets: OptionalInputFolder = None,
    pattern: Pattern = None,
    val_pattern: Pattern = None,
    val_images: OptionalInputFolder = None,
    val_masks: OptionalInputFolder = None,
    val_targets: OptionalInputFolder = None,
    start_from: Annotated[Path | None, Parameter(name="--from", group=FILES)] = None,
    pretrained: Annotated[str | None, Parameter(group=FILES)] = None,
    settings: Annotated[Path | None, Parameter(name="--config", group=FILES)] = None,
    axes: Axes = None,
    channels: Channels = None,
    resume: Annotated[bool, Parameter(negative=(), group=FILES)] = False,
    restart: Annotated[bool, Parameter(negative=(), group=FILES)] = False,
    config: Training = TrainConfig(),  # noqa: B008 - frozen
    weights: Weights = WeightConfig(),  # noqa: B008 - frozen
    network: Network = NetworkFlags(),  # noqa: B008 - frozen
) -> int:
    """Train a U-Net on images and their masks, or on pairs of images.

    A mask is a label image with the name of its image: 0 is background, and each cell
    has its own number. Some images are held back to see how well it goes; the best
    model is kept. Ctrl-C stops early and keeps the best model so far; --resume goes on
    with a training that was stopped, killed or cut off.

    ```
    napari-unet train --images images --masks masks --out cells.unet
    ```

    Parameters
    ----------
    images
        Folder of images: TIFF or PNG.
    masks
        Folder of their masks, of the same names; `napari-unet convert` makes them
        from COCO, ImageJ, QuPath and others.
    targets
        Instead of masks: folder of the images to be made from them, of the same names
        and size, or 2 or 4 times finer.
    out
        The model to write, such as cells.unet.
    pattern
        Take only the files whose name fits, such as 'train_*'.
    val_pattern
        Validate on the files of --images whose name fits, such as 'val_*'.
    val_images
        Folder of images to validate on.
    val_masks
        Folder of their masks.
    val_targets
        Folder of their targets.
    start_from
        Go on from this model instead of from scratch, with what fits of it.
    pretrained
        Go on from a model that comes with napari-unet, by its name: nuclei. Or
        imagenet: begin a trans_unet of base width 64 with weights from ImageNet,
        downloaded once (needs the extra 'pretrained').
    settings
        Settings from a JSON file, with the sections train, network and weights; flags
        win over it.
    resume
        Go on with the training that was to write this model and was interrupted, from
        its last checkpoint. Give the same images, masks and settings.
    restart
        Begin anew although the training that was to write this model was interrupted;
        its checkpoints are deleted.
    """
    makes, learned = _learned(masks, targets)
    val_learned = val_targets if makes else val_masks
    what = "target" if makes else "mask"
    if (val_masks if makes else val_targets) is not None:
        other = "mask" if makes else "target"
        raise UsageError(
            f"--val-{other}s does not go with --{what}s: give --val-{what}s"
        )
    _check_flags(val_pattern, val_images, val_learned, config, what)
    if resume and restart:
        raise UsageError("--resume and --restart exclude each other: give one of them")
    is_of_images = pretrained == _IMAGENET
    start_from = _start(start_from, None if is_of_images else pretrained)
    parts = read_settings(settings)
    config = merge(TrainConfig, _without_window(parts), config, settings)
    config = _of_task(config, makes=makes)
    weights = merge(WeightConfig, parts.get("weights", {}), weights, settings)
    shape = merge(NetworkConfig, parts.get("network", {}), network, settings)
    shape = _pretrained(shape) if is_of_images else shape
    prepare_model_file(out)
    if out.exists() and not resume:
        console.say_error(f"{out} is there already: it stays until training has ended")
    pairs, validation_pairs = _find_pairs(
        images, learned, pattern, val_pattern, val_images, val_learned, what
    )
    wanted = channel_list(channels)
    given = as_files(pairs, axes, wanted, are_targets=makes)
    validation = None
    if validation_pairs:
        validation = as_files(validation_pairs, axes, wanted, are_targets=makes)

    from napari_unet.learning.checkpoint import save_model
    from napari_unet.learning.device import keep_freed_memory
    from napari_unet.learning.loop.parallel import leave
    from napari_unet.learning.training import train as train_events

    keep_freed_memory()
    # What was not asked for is left to the model that is gone on from.
    mailbox = Mailbox()
    events = train_events(
        *given,
        config,
        network=shape if shape.model_fields_set or start_from is None else None,
        weights=weights if weights.model_fields_set or start_from is None else None,
        validation=validation,
        start_from=start_from,
        run_dir=out.with_name(f"{out.name}.run"),
        mailbox=mailbox,
        resume=resume,
        restart=restart,
    )
    with _stopping(mailbox) as received:
        finished = draw_training(_saying_stop(events, received))
        leave()
        if launched.rank() > 0:
            return 0
        if finished is None:
            return 128 + received[0]
        save_model(out, finished.model)
    # Of one or two cells none can be held back.
    where = "held-back" if finished.model.validated_on else "training"
    console.show_table(
        f"Scores on the {where} pixels",
        ("", "value"),
        [
            (name, console.number(name, value))
            for name, value in finished.scores.items()
        ],
    )
    console.say(f"model: {out}")
    return 128 + received[0] if received else 0


def _learned(masks: Path | None, targets: Path | None) -> tuple[bool, Path]:
    """Return whether images are to be made, and the folder of what is learned."""
    if targets is not None and masks is None:
        return True, targets
    if masks is not None and targets is None:
        return False, masks
    raise UsageError("give either --masks, to find cells, or --targets, to make images")


def _of_task(config: TrainConfig, *, makes: bool) -> TrainConfig:
    """Return the settings with the task that follows from what is learned."""
    task = "regress" if makes else "segment"
    if "task" in config.model_fields_set and config.task != task:
        wanted = "--masks" if makes else "--targets"
        raise UsageError(f"--task {config.task} needs {wanted}")
    return config if config.task == task else config.model_copy(update={"task": task})


def _without_window(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the settings of a file for training, but for what is for the window."""
    found = parts.get("train", {})
    return {name: value for name, value in found.items() if name != "keep_learning"}


def _start(start_from: Path | None, pretrained: str | None) -> Path | None:
    if pretrained is None:
        return start_from
    if start_from is not None:
        raise UsageError("--from and --pretrained exclude each other: give one of them")
    return shipped_model(pretrained)


def _pretrained(shape: NetworkConfig) -> NetworkConfig:
    wanted = {"architecture": "trans_unet", "base_width": 64}
    if any(getattr(shape, field) != value for field, value in wanted.items()):
        flags = " ".join(f"{flag_of(field)} {value}" for field, value in wanted.items())
        raise UsageError(
            f"--pretrained {_IMAGENET} is for a trans_unet of base width 64: give "
            f"{flags} as well"
        )
    given = shape.model_dump(exclude_unset=True) | {"pretrained": True}
    return NetworkConfig.model_validate(given)


def _check_flags(
    val_pattern: str | None,
    val_images: Path | None,
    val_learned: Path | None,
    config: TrainConfig,
    what: str,
) -> None:
    if config.keep_learning:
        raise UsageError(
            "--keep-learning waits for cells that are painted meanwhile, which takes "
            "the window (napari-unet gui): give more --max-steps instead"
        )
    if (val_images is None) != (val_learned is None):
        raise UsageError(f"--val-images and --val-{what}s belong together: give both")
    ways = {
        "--val-pattern": val_pattern is not None,
        "--val-images": val_images is not None,
        "--val-fraction": "val_fraction" in config.model_fields_set,
    }
    given = [flag for flag, is_given in ways.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other: give one of them")


def _find_pairs(
    images: Path,
    learned: Path,
    pattern: str | None,
    val_pattern: str | None,
    val_images: Path | None,
    val_learned: Path | None,
    what: str,
) -> tuple[_Pairs, _Pairs]:
    """Return the pairs to learn from and those to validate on (none: hold back).

    `what` is learned: a "mask" or a "target".
    """
    paths = find_images(images, pattern)
    held: list[Path] = []
    if val_pattern is not None:
        held = find_images(images, val_pattern)
        paths = [path for path in paths if path not in held]
        if not paths:
            raise FolderError(
                "NU-F03",
                f"all images in {images} are held back for validation by the pattern "
                f"{val_pattern!r}: give one that leaves some to learn from",
            )
    elif val_images is not None:
        held = find_images(val_images)
    pairs = _paired(paths, learned, what)
    if not held:
        console.say_error(f"{console.counted(len(pairs), 'image')} with {what}s")
        return pairs, []
    held_pairs = _paired(held, val_learned or learned, what)
    console.say_error(
        f"{console.counted(len(pairs), 'image')} with {what}s to learn from, "
        f"{len(held_pairs)} to validate"
    )
    return pairs, held_pairs


def _paired(paths: list[Path], folder: Path, what: str) -> _Pairs:
    pairs, missing = find_pairs(paths, folder, what=what)
    for path in missing:
        console.warn(f"{path.name} has no {what} in {folder} and is left out")
    return pairs


def _saying_stop(events: Iterator[Event], received: list[int]) -> Iterator[Event]:
    """Pass the events on, and say so as soon as a signal has come."""
    is_said = False
    for event in events:
        if received and not is_said:
            console.say_error(
                "Stopping; the best model is kept."
                + (" Ctrl-C again leaves now." if launched.n_ranks() == 1 else "")
            )
            is_said = True
        yield event


@contextmanager
def _stopping(mailbox: Mailbox) -> Iterator[list[int]]:
    """Let the first Ctrl-C or SIGTERM stop the training, and a second one leave.

    Yields the signals that came.
    """
    received: list[int] = []

    def on_signal(signum: int, _frame: object) -> None:
        # A launcher passes on what the processes may have got already, and ends them
        # by itself after a while.
        if received and launched.n_ranks() == 1:
            raise SystemExit(128 + signum)
        # Nothing is written here: the signal may have come in the midst of writing.
        received.append(signum)
        mailbox.stop()

    signals = (signal.SIGINT, signal.SIGTERM)
    try:
        before = [signal.signal(signum, on_signal) for signum in signals]
    except ValueError:  # not in the main thread, where signals never arrive
        yield received
        return
    try:
        yield received
    finally:
        # A launcher ends all as soon as one is gone: the others then say why.
        if launched.n_ranks() == 1:
            for signum, handler in zip(signals, before, strict=True):
                signal.signal(signum, handler)
