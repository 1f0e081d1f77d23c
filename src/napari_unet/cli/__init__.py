"""The command line: flags come from the config models."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pydantic
from cyclopts import App, CycloptsError, Group, MissingArgumentError

from napari_unet import __version__
from napari_unet.cli import (
    card,
    console,
    convert,
    curve,
    demo,
    doctor,
    evaluate,
    export,
    gui,
    import_model,
    predict,
    train,
    verify,
    voice,
    weights,
)
from napari_unet.cli.settings import UsageError, describe, flag_of
from napari_unet.errors import UNetError
from napari_unet.learning.loop import launched

_LOOP = Group("From images to cells", sort_key=1)
_OTHER = Group("Other", sort_key=2)

app = App(
    name="napari-unet",
    help="""Train a U-Net on a few painted cells, then segment a folder of images.

    Start with `napari-unet demo`. Each command explains itself with --help.""",
    version=__version__,
    # Ctrl-C must reach `run`, which answers with the exit code.
    suppress_keyboard_interrupt=False,
)
_COMMANDS: list[tuple[Callable[..., int | None], Group]] = [
    (train.train, _LOOP),
    (predict.predict, _LOOP),
    (evaluate.evaluate, _LOOP),
    (curve.learning_curve, _LOOP),
    (weights.weights, _LOOP),
    (card.card, _OTHER),
    (convert.convert, _OTHER),
    (export.export, _OTHER),
    (import_model.import_, _OTHER),
    (verify.verify, _OTHER),
    (demo.demo, _OTHER),
    (gui.gui, _OTHER),
    (doctor.doctor, _OTHER),
]
for _order, (_command, _group) in enumerate(_COMMANDS):
    app.command(_command, group=_group, sort_key=_order)
app["--help"].group = app["--version"].group = _OTHER


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code (see `run`)."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv : sequence of str
        What stands after ``napari-unet`` on the command line.

    Returns
    -------
    int
        0 done, 1 an error before anything was done, 2 flags not understood, 3 some
        files failed, 130 and 143 stopped by a signal.
    """
    try:
        with _terminate_as_exit():
            code = app(
                argv,
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
            )
    except (CycloptsError, UsageError, UNetError) as error:
        voice.before_an_error()
        code = _say_error(error)
        voice.after_an_error()
        return code
    except KeyboardInterrupt:
        console.say_error("interrupted")
        return 128 + signal.SIGINT
    return code or 0


def _say_error(error: CycloptsError | UsageError | UNetError) -> int:
    if isinstance(error, CycloptsError):
        return _usage_error(error)
    console.say_error(f"error: {error}")
    return 2 if isinstance(error, UsageError) else 1


def _usage_error(error: CycloptsError) -> int:
    cause = error.__cause__
    if isinstance(cause, pydantic.ValidationError):
        console.say_error(f"error: {describe(cause, flag_of)}")
    elif isinstance(error, MissingArgumentError) and error.argument is not None:
        what = "needs a value" if error.keyword else "is required"
        console.say_error(f"error: {error.argument.name} {what}")
    else:
        console.say_error(f"error: {' '.join(str(error).split())}")
    command = " ".join(error.command_chain or ())
    console.say_error(f"see napari-unet {command + ' ' if command else ''}--help")
    return 2


@contextmanager
def _terminate_as_exit() -> Iterator[None]:
    """Turn SIGTERM into an exit that unwinds, so that nothing half-written stays."""

    def leave(signum: int, _frame: object) -> None:
        sys.exit(128 + signum)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not in the main thread, where signals never arrive
        yield
        return
    try:
        yield
    finally:
        # What remains is to say how it ended, also where a launcher ends all.
        is_alone = launched.n_ranks() == 1
        signal.signal(signal.SIGTERM, before if is_alone else signal.SIG_IGN)
