"""`napari-unet demo`: the whole loop on the sample that comes with the package."""

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from napari_unet.cli import console
from napari_unet.cli.flags import Output, Switch
from napari_unet.cli.folders import prepare_folder
from napari_unet.cli.gui import can_open_a_window
from napari_unet.config import Device

_Demo = Path("demo")
_COMPUTING = Group("Training", sort_key=3)


def demo(
    *,
    out: Output = _Demo,
    headless: Switch = False,
    device: Annotated[Device, Parameter(group=_COMPUTING)] = "auto",
) -> None:
    """Show the whole loop on real nuclei: train, segment, compare with the truth.

    Learns from three crops of one field, segments the fourth, which it has not seen,
    and prints how well the cells agree. Takes about two minutes without a GPU.

    ```
    napari-unet demo
    ```

    Parameters
    ----------
    out
        Folder for model, labels, scores and pictures.
    headless
        Don't open napari at the end.
    device
        auto takes CUDA (or ROCm), then Apple's MPS, then the CPU.
    """
    prepare_folder(out)

    from napari_unet.cli.drawing import draw_demo
    from napari_unet.demo import DEMO_CONFIG, run_demo

    config = DEMO_CONFIG.model_copy(update={"device": device})
    finished = draw_demo(run_demo(out, config=config))
    console.show_scores(
        finished.scores,
        f"The unseen crop against the truth, after {finished.training_s:.0f} s of "
        "training",
    )
    console.say(f"labels, pictures, scores and model: {out}")
    if headless:
        return
    why_not = can_open_a_window()
    if why_not:
        console.say(f"napari is not opened: {why_not}")
        return
    from napari_unet.widgets.window import show_demo

    show_demo(out)
