"""`napari-unet doctor`: what this machine computes with."""

from napari_unet.cli import console


def doctor() -> None:
    """Show what is computed with, how fast, and how to make use of an idle GPU.

    Takes a few seconds.

    ```
    napari-unet doctor
    ```
    """
    from napari_unet.doctor import (
        advise,
        benchmark,
        find_gpus,
        torch_build,
        versions,
    )
    from napari_unet.learning.device import choose_device

    device = choose_device("auto")
    gpus = find_gpus()
    # Why it is the CPU is what the advice below says.
    rows = [("device", device.label), *versions().items()]
    for gpu in gpus:
        rows.append(("GPU", gpu.name))
        rows.append(("GPU driver", gpu.driver or "unknown"))
    console.show_table("This machine", ("", "found"), rows, are_numbers=False)
    with console.working("Measuring for two seconds"):
        speed = benchmark(device)
    console.show_table(
        f"Speed in {speed.precision}",
        ("", "measured"),
        [
            ("convolutions", f"{speed.gflop_per_s:,.0f} GFLOP/s"),
            ("default network", f"{speed.mpx_per_s:,.1f} megapixels/s"),
        ],
    )
    console.say(
        advise(gpus, device.name, build=torch_build()) or _all_well(device.name)
    )


def _all_well(device: str) -> str:
    if device == "cpu":
        return "There is no GPU that torch could use: the CPU does the work."
    return "The GPU is used."
