"""Images from images: denoising and super-resolution against what needs no training.

Trained on ``train_*``, judged on ``val_*`` by PSNR (dB) and SSIM in the units of the
targets. The baselines are given an advantage: each is the best of several strengths,
chosen on the images that it is judged on.

    python benchmarks/regression.py DATA --seeds 0 1 2 --json FILE > FILE.md
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from scipy import ndimage
from skimage.restoration import denoise_nl_means

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.events import Finished
from napari_unet.imaging.image_comparison import compare_images, mean_scores
from napari_unet.learning.prediction import predict
from napari_unet.learning.training import train

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Pixels = NDArray[Any]
    Pairs = tuple[list[Pixels], list[Pixels]]

_TASKS = ("denoise_fmd", "denoise_synthetic", "vnc_em")
# A noise of standard deviation 1 gives it a mean magnitude of 6 sqrt(2 / pi).
_SECOND_DIFFERENCES = np.outer([1, -2, 1], [1, -2, 1])


def pairs_of(folder: Path, split: str) -> Pairs:
    """Return images and targets; of electron micrographs ones shrunk by 2."""
    paths = sorted((folder / "images").glob(f"{split}_*.tif"))
    images = [tifffile.imread(path) for path in paths]
    if (folder / "targets").is_dir():
        targets = [tifffile.imread(folder / "targets" / path.name) for path in paths]
        return images, targets
    return [_shrunk(image) for image in images], images


def _shrunk(image: Pixels) -> Pixels:
    height, width = (n // 2 for n in image.shape)
    means = image.reshape(height, 2, width, 2).mean((1, 3))
    return np.asarray(means, np.float32)


def _noise_of(image: Pixels) -> float:
    """Return the standard deviation of an image's noise (Immerkaer 1996)."""
    differences = ndimage.convolve(image, _SECOND_DIFFERENCES)
    return float(np.abs(differences).mean() * math.sqrt(math.pi / 2) / 6)


def _non_local_means(image: Pixels, strength: float) -> Pixels:
    noise = _noise_of(image)
    found = denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=strength * noise, sigma=noise
    )
    return np.asarray(found)


def _enlarged(image: Pixels, order: int) -> Pixels:
    found = ndimage.zoom(image, 2, order=order, grid_mode=True, mode="mirror")
    return np.asarray(found)


def baselines(*, is_finer: bool) -> dict[str, list[Callable[[Pixels], Pixels]]]:
    """Return methods without training, each at several strengths."""
    if is_finer:
        return {
            name: [lambda x, k=order: _enlarged(x, k)]  # type: ignore[misc]
            for name, order in (("linear", 1), ("cubic", 3))
        }
    return {
        "input": [lambda x: x],
        "Gaussian": [
            lambda x, s=s: ndimage.gaussian_filter(x, s)  # type: ignore[misc]
            for s in (0.7, 1.0, 1.5, 2.0, 2.5, 3.0)
        ],
        "median": [
            lambda x, n=n: ndimage.median_filter(x, n)  # type: ignore[misc]
            for n in (3, 5, 7, 9)
        ],
        "non-local means": [
            lambda x, h=h: _non_local_means(x, h)  # type: ignore[misc]
            for h in (0.6, 0.8, 1.0, 1.3, 1.6, 2.0)
        ],
    }


def judged(method: Callable[[Pixels], Pixels], pairs: Pairs) -> tuple[float, float]:
    """Return PSNR and SSIM of a method, means over the images."""
    made = [method(np.asarray(image, float)) for image in pairs[0]]
    both = zip(pairs[1], made, strict=True)
    found = mean_scores([compare_images(t[None], m[None]) for t, m in both])
    return found.psnr, found.ssim


def trained(
    folder: Path, seed: int, minutes: float, adds_image: bool | None
) -> dict[str, float]:
    """Return PSNR and SSIM of a network trained from scratch."""
    config = TrainConfig(task="regress", seed=seed, max_minutes=minutes)
    network = None if adds_image is None else NetworkConfig(adds_image=adds_image)
    began = time.monotonic()
    *_, last = train(*pairs_of(folder, "train"), config, network=network)
    if not isinstance(last, Finished):
        raise TypeError(f"training ended with {last!r}")
    model = last.model
    took_s = time.monotonic() - began
    psnr, ssim = judged(lambda x: predict(model, x)[0], pairs_of(folder, "val"))
    return {"psnr": psnr, "ssim": ssim, "seconds": took_s, "steps": model.step}


def main(arguments: list[str] | None = None) -> None:
    """Print a table; write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", choices=_TASKS, default=_TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--compare-sum", action="store_true", help="adds_image or not")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    rows = []
    print("| data | method | PSNR (dB) | SSIM |\n|---|---|---:|---:|")
    for name in given.only:
        pairs = pairs_of(given.data / name, "val")
        is_finer = pairs[0][0].shape != pairs[1][0].shape
        for method, strengths in baselines(is_finer=is_finer).items():
            psnr, ssim = max(judged(each, pairs) for each in strengths)
            rows.append({"data": name, "method": method, "psnr": psnr, "ssim": ssim})
            print(f"| {name} | {method} | {psnr:.2f} | {ssim:.3f} |", flush=True)
        for adds in (True, False) if given.compare_sum else (None,):
            runs = [
                trained(given.data / name, s, given.minutes, adds) for s in given.seeds
            ]
            said = {None: "U-Net", True: "U-Net + image", False: "U-Net, no sum"}[adds]
            cells = [
                f"{np.mean(v):.{d}f} ± {np.std(v):.{d}f}"
                for v, d in (([r[k] for r in runs], n) for k, n in _DIGITS.items())
            ]
            print(f"| {name} | {said} | {' | '.join(cells)} |", flush=True)
            rows.append({"data": name, "method": said, "runs": runs})
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n")


_DIGITS = {"psnr": 2, "ssim": 3}

if __name__ == "__main__":
    main(sys.argv[1:])
