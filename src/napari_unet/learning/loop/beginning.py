"""How a training begins, or goes on: from what was given to all that its loop needs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.errors import ConfigError
from napari_unet.events import Finished, Note, Planned
from napari_unet.files.atomic import write_text
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.device import (
    choose_device,
    own_memory_errors,
    training_precision,
)
from napari_unet.learning.loop import resuming, runs, snapshots
from napari_unet.learning.loop.averaging import Average
from napari_unet.learning.loop.live import Strokes
from napari_unet.learning.loop.material import gather
from napari_unet.learning.loop.parallel import join
from napari_unet.learning.loop.preparation import prepare
from napari_unet.learning.loop.previews import Preview
from napari_unet.learning.loop.progress import Best, Clock, History, Pace
from napari_unet.learning.loop.run_state import RunState
from napari_unet.learning.loop.stepping import Stepper
from napari_unet.learning.losses.by_role import loss_for
from napari_unet.learning.model import weights_sha256
from napari_unet.learning.patches import PatchSource
from napari_unet.learning.planning import Plan, plan
from napari_unet.learning.planning_rules import learning_rate_for
from napari_unet.learning.quality.held_back import HeldBack
from napari_unet.learning.recovery import Buffers, Memory, Stability

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_unet.config import WeightConfig
    from napari_unet.events import Event
    from napari_unet.learning.data.pairs import AnnotationLike, ImageLike
    from napari_unet.learning.data.splitting import Split
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.loop.material import Material
    from napari_unet.learning.loop.parallel import Ranks
    from napari_unet.learning.loop.snapshots import Snapshot
    from napari_unet.learning.model import Model

# Of the time of training: more would be noticed.
_VALIDATION_SHARE, _CHECKPOINT_SHARE = 0.08, 0.03


@dataclass(frozen=True, eq=False)
class Given:
    """What `train` was given; `is_live` says that there is a mailbox."""

    images: Sequence[ImageLike]
    annotations: Sequence[AnnotationLike | ImageLike]
    config: TrainConfig
    network: NetworkConfig | None
    weights: WeightConfig | None
    validation: tuple[Sequence[ImageLike], Sequence[AnnotationLike | ImageLike]] | None
    start: Model | None
    is_live: bool = False

    @property
    def settings(self) -> dict[str, dict[str, Any] | None]:
        """The settings, as JSON knows them."""
        return resuming.as_given(
            config=self.config, network=self.network, weights=self.weights
        )


def begin(
    given: Given, folder: Path | None, *, resume: bool, restart: bool = False
) -> Generator[Event, None, RunState | None]:
    """Prepare a training, or take up the one in the run folder.

    Parameters
    ----------
    given : Given
        What to learn from, and how.
    folder : path, optional
        The run folder.
    resume, restart : bool
        Go on with the run in it, or begin anew even if that one was interrupted.

    Yields
    ------
    Note, Planned
        What the user should know before the first step; `Finished` where the run to
        go on with is finished.

    Returns
    -------
    RunState or None
        None where there is nothing left to do.

    Raises
    ------
    UNetError
        The input can't be learned from, or it is not that of the run (NU-C30); the
        folder holds a run that was interrupted (NU-C33).
    """
    ranks = join(given.config.device)
    snapshot, is_finished = yield from _taken_up(given, folder, ranks, resume, restart)
    if is_finished:
        return None
    device = choose_device(given.config.device)
    material = gather(
        given.images,
        given.annotations,
        given.config,
        network=given.network,
        validation=given.validation,
        start=given.start,
    )
    chosen = yield from _planned(given, material, device, snapshot, ranks)
    ranks.check(chosen.config.batch_size, device)
    model, split, warnings = prepare(
        material,
        chosen.config,
        network=chosen.network,
        weights=given.weights,
        scale=chosen.scale,
        scales=chosen.scales,
    )
    if split.is_held_back:
        model = replace(model, held_back=split.held_back, validated_on=split.how)
    else:
        warnings.append(split.how)
    yield from (Note(warning, is_warning=True) for warning in warnings)
    wanted = chosen.config.precision
    precision = _same_precision(snapshot, device) or ranks.decide(
        lambda: training_precision(device, wanted)
    )
    run = _assembled(given, model, split, device, folder, precision, ranks)
    run.decided = _decided(given, run, chosen)
    run.may_forget = material.kept == "all" and run.config.start_with == "auto"
    if "learning_rate" not in given.config.model_fields_set:
        run.rate_anew = _rate_anew(run.config, chosen.network)
    run.n_cells = material.survey.cell_areas_px.size
    if given.validation is None and split.is_held_back:
        run.n_cells -= run.held.n_cells
    if snapshot is None or folder is None:
        runs.start(run.folder, model)
        _write_split(run)
        return run
    yield from _go_on(run, snapshot, folder)
    return run


def _taken_up(
    given: Given, folder: Path | None, ranks: Ranks, resume: bool, restart: bool
) -> Generator[Event, None, tuple[Snapshot | None, bool]]:
    """Return what the first process finds to go on from: the same in all."""
    found: tuple[Snapshot | None, bool] = (None, False)
    if ranks.is_first and resume:
        found = yield from _find(given, folder)
    elif ranks.is_first and folder is not None:
        if not restart:
            runs.check_may_begin(folder)
        if runs.end_of(folder) is not None:
            yield Note(f"The finished training in {folder} is replaced by this one")
    return ranks.decide(lambda: found)


def _find(
    given: Given, folder: Path | None
) -> Generator[Event, None, tuple[Snapshot | None, bool]]:
    """Return the newest checkpoint of the run, if any, and whether it is finished."""
    if folder is None:
        raise ConfigError(
            "NU-C31", "a training can only be gone on with from a run folder: give one"
        )
    snapshot, messages = snapshots.read_newest(folder / runs.CHECKPOINTS)
    yield from (Note(message, is_warning=True) for message in messages)
    if snapshot is None:
        yield Note(f"There is nothing to go on from in {folder}: training begins anew")
        return None, False
    settings = snapshot.decided["given"]
    resuming.check_same_settings(settings, given.settings, folder)
    end = runs.end_of(folder)
    if end is None:
        return snapshot, False
    yield Note(
        f"The run in {folder} is finished, after {end[0]} steps: this is its best model"
    )
    model = load_model(folder / runs.BEST)
    yield Finished(model, model.scores, end[1])
    return snapshot, True


def _planned(
    given: Given,
    material: Material,
    device: DeviceChoice,
    snapshot: Snapshot | None,
    ranks: Ranks,
) -> Generator[Event, None, Plan]:
    """Say what is anew in a model to start from, and plan, unless that was done."""
    if material.told:
        yield Note(material.told)
    before = _planned_before(snapshot)
    if before is not None:
        return before
    chosen = ranks.decide(
        lambda: plan(
            material.survey,
            material.config,
            given.network,
            device,
            start=material.start,
            is_anew=material.kept == "encoder",
        )
    )
    if chosen.choices:
        yield Planned(chosen.choices)
    return chosen


def _planned_before(snapshot: Snapshot | None) -> Plan | None:
    """Return what was planned when the run began; None to plan now."""
    if snapshot is None:
        return None
    then = snapshot.decided
    config = TrainConfig(**then["config"])
    network = NetworkConfig(**then["network"])
    return Plan(config, network, then["scale"], tuple(then["scales"]), ())


def _same_precision(snapshot: Snapshot | None, device: DeviceChoice) -> str | None:
    """Return what was probed when the run began; None to probe (anew)."""
    if snapshot is None or snapshot.decided["device"] != device.name:
        return None
    return str(snapshot.decided["precision"])


def _assembled(
    given: Given,
    model: Model,
    split: Split,
    device: DeviceChoice,
    folder: Path | None,
    precision: str,
    ranks: Ranks,
) -> RunState:
    config = model.training
    with own_memory_errors(device):
        net = model.build().train().to(device.torch)
        loss = loss_for(config, model.roles)
        stepper = Stepper(net, loss, config, device, precision, ranks)
    run = RunState(
        model=model,
        split=split,
        held=HeldBack(split.validation, model),
        source=PatchSource(split.train, spare=split.spare, seed=config.seed),
        strokes=Strokes(None if folder is None else folder / runs.STROKES),
        preview=Preview(),
        device=device,
        net=net,
        stepper=stepper,
        average=Average(net, config.ema_decay),
        buffers=Buffers(net),
        best=Best(model),
        history=History(model),
        clock=Clock(),
        memory=Memory(
            device,
            batch_size=-(-config.batch_size // ranks.n),
            patch_size=config.patch_size,
            # One pixel at the bottom is too few for a norm to learn from one patch.
            min_patch_size=2 * net.multiple,
        ),
        stability=Stability(),
        # On a CPU the same seed gives the same model: there no clock may decide.
        looks=Pace(
            config.validate_every, None if device.name == "cpu" else _VALIDATION_SHARE
        ),
        checkpoints=Pace(
            config.checkpoint_every,
            None
            if "checkpoint_every" in given.config.model_fields_set
            else _CHECKPOINT_SHARE,
        ),
        folder=folder if ranks.is_first else None,
        ranks=ranks,
        keeps_learning=config.keep_learning and given.is_live,
    )
    run.keep_good()
    return run


def _rate_anew(config: TrainConfig, network: NetworkConfig) -> float | None:
    is_planned = config.optimizer == "adamw"
    return learning_rate_for(network.base_width) if is_planned else None


def _decided(given: Given, run: RunState, chosen: Plan) -> dict[str, Any]:
    model = run.model
    return {
        "given": given.settings,
        "config": model.training.model_dump(mode="json"),
        "network": model.network.model_dump(mode="json"),
        "scale": chosen.scale,
        "scales": list(chosen.scales),
        "device": run.device.name,
        "precision": run.stepper.precision,
        "environment": resuming.environment(run.device),
        "data": {
            "images or annotations": model.fingerprint,
            "weights to begin with": weights_sha256(model.state),
            "held-back regions": [asdict(region) for region in run.split.held_back],
        },
    }


def _go_on(
    run: RunState, snapshot: Snapshot, folder: Path
) -> Generator[Note, None, None]:
    then, now = snapshot.decided, json.loads(json.dumps(run.decided))
    resuming.check_same_data(then["data"], now["data"], folder)
    difference = resuming.what_differs(then["environment"], now["environment"])
    run.restore(snapshot)
    run.held.tile_px = run.memory.tile_px
    run.strokes.replay()
    if run.folder is not None:
        runs.go_back_to(run.folder, run.step)
    where = f"Training goes on after step {run.step}"
    if difference:
        yield Note(f"{where}; {difference}", is_warning=True)
    elif run.config.max_minutes is not None:
        yield Note(
            f"{where}; its learning rate follows the clock, so that the numbers will "
            "not be quite those of a run that was never interrupted"
        )
    else:
        yield Note(where)


def _write_split(run: RunState) -> None:
    if run.folder is not None:
        text = json.dumps(run.split.as_json(), indent=2)
        write_text(run.folder / runs.SPLIT, text + "\n")
