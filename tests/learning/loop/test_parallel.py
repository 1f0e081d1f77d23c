"""Two real processes, started by torchrun, that talk over gloo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch
import torch.distributed as dist

from napari_unet.cli import run
from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.errors import ConfigError, ResourceError
from napari_unet.events import Finished
from napari_unet.imaging.drawn import draw_cells
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.device import DeviceChoice
from napari_unet.learning.loop import launched, parallel
from napari_unet.learning.loop.parallel import ALONE, Ranks, join
from napari_unet.learning.training import train

if TYPE_CHECKING:
    from pathlib import Path

CPU = DeviceChoice("cpu", "CPU")

# What each of the two processes does; it writes down what came of it.
_CHECKS = """
import json, os, sys
from pathlib import Path
import numpy as np
import torch
from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.errors import ResourceError
from napari_unet.events import Finished, Mailbox, Note
from napari_unet.imaging.drawn import draw_cells
from napari_unet.learning.augmentation import Batch
from napari_unet.learning.device import DeviceChoice
from napari_unet.learning.losses.by_role import loss_for
from napari_unet.learning.model import weights_sha256
from napari_unet.learning.networks import build_network
from napari_unet.learning.loop import gradients
from napari_unet.learning.loop.parallel import ALONE, is_first_to_fail, join, leave
from napari_unet.learning.loop.stepping import Stepper
from napari_unet.learning.training import train

CPU = DeviceChoice("cpu", "CPU")
ROLES = ("softmax:background", "softmax:cell")
ranks = join("cpu")
found = {"rank": ranks.rank, "n": ranks.n, "again": join("cpu") is ranks}

def steps(loss, norm, n_micro, of, seed=0, precision="fp32", nan_in=None):
    config = TrainConfig(loss=loss, optimizer="sgd")
    torch.manual_seed(seed)
    network = NetworkConfig(out_channels=2, base_width=4, depth=1, norm=norm)
    net = build_network(network).train()
    stepper = Stepper(net, loss_for(config, ROLES), config, CPU, precision, of)
    for name, buffer in net.named_buffers():
        if "running_mean" in name:
            buffer += 1000 * seed
    rng = torch.Generator().manual_seed(1)
    losses = []
    # Three with care, the others while the backward pass goes on.
    for step in range(5):
        # Five patches for two processes, whose weights differ a lot.
        image = torch.randn(5, 1, 16, 16, generator=rng)
        classes = (image[:, 0] > 0.3).long()
        weights = torch.rand(5, 16, 16, generator=rng)
        weights *= torch.tensor([0.0, 9.0, 1.0, 0.2, 3.0])[:, None, None]
        if nan_in == step:
            image[4] = torch.nan  # a patch of the second one
        micro = n_micro if isinstance(n_micro, int) else n_micro[step]
        losses.append(stepper.step(Batch(image, classes, weights), 0.1, micro))
    return net, losses

def of_weights(net):
    return weights_sha256({n: p.detach() for n, p in net.named_parameters()})

def difference(loss, norm, n_micro):
    ours, our_losses = steps(loss, norm, n_micro, ranks)
    alone, losses = steps(loss, norm, 1, ALONE)
    pairs = zip(ours.parameters(), alone.parameters(), strict=True)
    most = max(float((a - b).detach().abs().max()) for a, b in pairs)
    losses = zip(our_losses, losses, strict=True)
    return [most, max(abs(a - b) for a, b in losses)]

found["differences"] = {
    f"{loss} {norm} {n_micro}": difference(loss, norm, n_micro)
    for loss in ("cross_entropy", "combined", "dice", "focal")
    for norm in ("none", "group")
    for n_micro in (1, 2)
}
# Networks that begin otherwise, and learn from statistics of their own.
net, _ = steps("cross_entropy", "batch", 1, ranks, seed=ranks.rank)
found["parameters"] = of_weights(net)
means = [buffer for name, buffer in net.named_buffers() if "running_mean" in name]
found["least mean"] = min(float(mean.min()) for mean in means)
found["buffers"] = weights_sha256(dict(net.named_buffers()))

# With care, without, and as usual. A size is new at the fourth step, though not to the
# first process, whose two patches go one by one already.
n_careful, agree = gradients._N_CAREFUL, ranks.all_or_none
def with_care(n, loss, n_micro, precision):
    gradients._N_CAREFUL, n_agreed = n, []
    ranks.all_or_none = lambda device: n_agreed.append(1) or agree(device)
    net, losses = steps(loss, "group", n_micro, ranks, precision=precision)
    gradients._N_CAREFUL, ranks.all_or_none = n_careful, agree
    return [of_weights(net), losses, len(n_agreed)]
found["care"] = {
    f"{loss} {n_micro} {precision}": [
        with_care(n, loss, n_micro, precision) for n in (99, 0, n_careful)
    ]
    for loss in ("cross_entropy", "combined")
    for n_micro in (1, [2, 2, 2, 4, 4])
    for precision in ("fp32", "bf16", "fp16")
}
net, losses = steps("cross_entropy", "none", 1, ranks, nan_in=4)
found["nan"] = [losses[-1] != losses[-1], all(loss == loss for loss in losses[:-1])]
found["nan"] += [all(bool(p.isfinite().all()) for p in net.parameters())]

found["decided"] = ranks.decide(lambda: f"by {ranks.rank}")
def too_large():
    raise ResourceError("NU-R02", f"of {ranks.rank}")
for name, context in {
    "refused": lambda: ranks.decide(too_large),
    "in none": lambda: memory(1),
}.items():
    def memory(rank):
        with ranks.all_or_none(CPU):
            if ranks.rank == rank:
                raise MemoryError
    try:
        context()
    except ResourceError as error:
        found[name] = str(error)
found["reasons"] = [
    ranks.any_reason(None),
    ranks.any_reason("stopped" if ranks.rank else None),
    ranks.any_reason("time" if ranks.rank else "steps"),
    ranks.any_wants(ranks.rank == 1),
    ranks.any_wants(False),
]
events = iter([Note("one"), Note("two")])
found["led"] = [event.message for event in ranks.led(events)]
mailbox = Mailbox()
heard = ranks.hears(mailbox)
mailbox.pause()
mailbox.set_learning_rate(1.0)
found["heard"] = [heard.wants_pause, heard.learning_rate, heard.wants_stop]
mailbox.stop()
found["heard stop"] = heard.wants_stop

# All of a training, through its one loop.
image, labels = draw_cells((64, 64), n_cells=8, rng=np.random.default_rng(1))
config = TrainConfig(**json.loads(sys.argv[2]))
network = NetworkConfig(**json.loads(sys.argv[3]))
out = Path(sys.argv[1])
for name, more in {"trained": {}, "timed": {"max_minutes": 5.0}}.items():
    settings = config.model_copy(update=more)
    folder = out / f"{name} by {ranks.rank}"
    events = list(train([image], [labels], settings, network=network, run_dir=folder))
    found[name] = [type(event).__name__ for event in events]
    found[f"{name} model"] = weights_sha256(events[-1].model.state)
    found[f"{name} folder"] = folder.exists()
torch.save(events[-1].model.state, out / "state.pt") if ranks.rank == 1 else None
found["first to fail"] = [is_first_to_fail(), is_first_to_fail()]
(out / f"{ranks.rank}.json").write_text(json.dumps(found))
ranks.any_wants(False)
leave()
"""

# What may go wrong, at which step: "rank:what:step".
_FAULTY = """
import os, signal, sys, time
import torch
from napari_unet.cli import run
from napari_unet.learning.loop import parallel
from napari_unet.learning.loop.stepping import Stepper

# The launcher's SIGTERM comes before anybody has said what went wrong.
is_first_to_fail = parallel.is_first_to_fail
parallel.is_first_to_fail = lambda: time.sleep(1) or is_first_to_fail()

faults = {}
for text in os.environ["FAULTS"].split():
    rank, what, step = text.split(":")
    if rank == os.environ["RANK"]:
        faults[int(step)] = what
begin, n_begun = Stepper.begin, 0

def lacks_memory(_):
    raise MemoryError

def faulty(self, batch, lr, n_micro=1):
    global n_begun
    what = faults.pop(n_begun + 1, None)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    if what == "interrupt-all":
        os.kill(os.getppid(), signal.SIGINT)
    if what == "nan":
        batch.image[...] = float("nan")
    if what == "memory":
        self._logits = lacks_memory
    if what == "memory-at-the-end":  # of the backward pass
        first = next(iter(self._names)).register_hook(lacks_memory)
    try:
        begin(self, batch, lr, n_micro)
    finally:
        vars(self).pop("_logits", None)
        if what == "memory-at-the-end":
            first.remove()
    n_begun += 1

Stepper.begin = faulty
sys.exit(run(sys.argv[1:]))
"""

SETTINGS = {
    "max_steps": 6,
    "validate_every": 3,
    "patch_size": 16,
    "batch_size": 3,
    "learning_rate": 1e-2,
    "optimizer": "sgd",
    "precision": "fp32",
    "device": "cpu",
}
NETWORK = {"base_width": 2, "depth": 1, "norm": "group"}


def torchrun(
    script: Path, *arguments: str, n: int = 2, faults: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FAULTS": faults}
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}")
    return subprocess.run(
        [sys.executable, *launcher, str(script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,  # if they wait for each other for ever
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parallel")


@pytest.fixture(scope="module")
def both(folder: Path) -> list[dict[str, Any]]:
    """What two processes found."""
    script = folder / "checks.py"
    script.write_text(_CHECKS)
    settings = [json.dumps(SETTINGS), json.dumps(NETWORK)]
    result = torchrun(script, str(folder), *settings)
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


pytestmark = pytest.mark.skipif(
    not dist.is_available() or sys.platform == "win32",
    reason="torch has no gloo, or torchrun no signals here",
)


@pytest.mark.slow
def test_each_process_knows_the_others(both: list[dict[str, Any]]) -> None:
    assert [(each["rank"], each["n"], each["again"]) for each in both] == [
        (0, 2, True),
        (1, 2, True),
    ]


@pytest.mark.slow
def test_gradients_are_those_of_one_process(both: list[dict[str, Any]]) -> None:
    for each in both:
        for case, (of_weights, of_loss) in each["differences"].items():
            assert of_weights < 1e-6, case
            assert of_loss < 2e-6, case


@pytest.mark.slow
def test_weights_stay_the_same_to_the_bit_and_statistics_do_not(
    both: list[dict[str, Any]],
) -> None:
    first, second = both
    assert first["parameters"] == second["parameters"]
    assert first["buffers"] != second["buffers"]
    # Those of the second began 1000 higher, of which a third is left.
    assert first["least mean"] < 10
    assert second["least mean"] > 300


@pytest.mark.slow
def test_steps_are_the_same_to_the_bit_with_care_and_without(
    both: list[dict[str, Any]],
) -> None:
    first, second = both
    assert first["care"] == second["care"]
    for case, ways in first["care"].items():
        weights, losses, n_agreed = zip(*ways, strict=True)
        assert len(set(weights)) == 1, case
        assert losses[0] == losses[1] == losses[2], case
        n_new = 3 if " 1 " in case else 5
        if "cross_entropy" in case:
            assert n_agreed == (5, 0, n_new), case
        else:  # looks first, which is agreed on in each step
            assert n_agreed == (10, 5, 5 + n_new), case


@pytest.mark.slow
def test_no_process_takes_a_step_that_is_no_number_in_one(
    both: list[dict[str, Any]],
) -> None:
    for each in both:
        assert each["nan"] == [True, True, True]


@pytest.mark.slow
def test_the_first_decides_and_all_fail_together(both: list[dict[str, Any]]) -> None:
    for each in both:
        assert each["decided"] == "by 0"
        assert each["refused"] == "of 0 [NU-R02]"
        assert "too little memory" in each["in none"]
        assert each["reasons"] == [None, "stopped", "time", True, False]
    assert [each["led"] for each in both] == [["one", "two"], ["two"]]


@pytest.mark.slow
def test_only_the_wish_to_stop_is_heard(both: list[dict[str, Any]]) -> None:
    for each in both:
        assert each["heard"] == [False, None, False]
        assert each["heard stop"]


@pytest.mark.slow
def test_one_of_them_says_what_went_wrong(both: list[dict[str, Any]]) -> None:
    asked = [answer for each in both for answer in each["first to fail"]]
    assert sorted(asked) == [False, False, False, True]


@pytest.mark.slow
def test_a_training_ends_with_one_model_and_the_first_writes(
    both: list[dict[str, Any]],
) -> None:
    first, second = both
    for name in ("trained", "timed"):
        assert first[f"{name} model"] == second[f"{name} model"]
        assert [each[f"{name} folder"] for each in both] == [True, False]
        assert first[name][-1] == second[name][-1] == "Finished"
        for event in ("StepDone", "Validated"):
            assert first[name].count(event) == second[name].count(event) > 1


@pytest.mark.slow
def test_a_training_is_that_of_one_process(
    both: list[dict[str, Any]], folder: Path, cells: tuple[np.ndarray, np.ndarray]
) -> None:
    assert both
    config, network = TrainConfig(**SETTINGS), NetworkConfig(**NETWORK)
    timed = config.model_copy(update={"max_minutes": 5.0})
    *_, end = train([cells[0]], [cells[1]], timed, network=network)
    assert isinstance(end, Finished)
    states = torch.load(folder / "state.pt", weights_only=True)
    for name, ours in end.model.state.items():
        torch.testing.assert_close(states[name], ours, rtol=0, atol=2e-6)


def arguments(data: Path, out: Path, *more: str, batch_size: int = 4) -> list[str]:
    own = {
        "images": data / "images",
        "masks": data / "masks",
        "out": out,
        "max-steps": 9,
        "validate-every": 4,
        "checkpoint-every": 2,
        "batch-size": batch_size,
        "patch-size": 32,
        "device": "cpu",
        "base-width": 2,
        "depth": 1,
    }
    return ["train", *(f"--{name}={value}" for name, value in own.items()), *more]


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    """A folder with six images and their masks."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for i in range(6):
        image, labels = draw_cells((64, 64), n_cells=6, rng=np.random.default_rng(i))
        tifffile.imwrite(folder / "images" / f"{i}.tif", image)
        tifffile.imwrite(folder / "masks" / f"{i}.tif", labels.astype(np.uint16))
    return folder


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    script = tmp_path / "faulty.py"
    script.write_text(_FAULTY)
    return script


def state_after(out: Path) -> bytes:
    (path,) = (out.with_name(f"{out.name}.run") / "checkpoints").glob("*.safetensors")
    return path.read_bytes()


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_training_goes_on(
    faulty: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "killed.unet", tmp_path / "other.unet"
    result = torchrun(faulty, *arguments(data, out), faults="1:kill:6")
    assert result.returncode != 0
    assert result.stderr.count("[NU-R05]") == 1, result.stderr
    assert not out.exists()
    shutil.copytree(f"{out}.run", f"{other}.run")

    result = torchrun(faulty, *arguments(data, out, "--resume"))
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("Training goes on after step 4\n") == 1

    # Another number of processes goes on as well, and says what that means.
    assert run(arguments(data, other, "--resume")) == 0
    assert "number of processes is 1 instead of 2" in capsys.readouterr().err
    assert load_model(other).step == load_model(out).step == 9

    result = torchrun(faulty, *arguments(data, other))
    assert result.returncode == 0, result.stderr
    assert state_after(out) == state_after(other)


@pytest.mark.slow
def test_the_first_process_may_be_the_one_that_is_killed(
    faulty: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed.unet"
    result = torchrun(faulty, *arguments(data, out), faults="0:kill:6")
    assert result.returncode != 0
    assert result.stderr.count("[NU-R05]") == 1, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["1:terminate:5", "0:interrupt-all:5"])
def test_a_signal_stops_all_after_one_step_and_keeps_the_best(
    fault: str, faulty: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "stopped.unet"
    result = torchrun(faulty, *arguments(data, out), faults=fault)
    assert result.stderr.count("Training ended: stopped by you") == 1
    assert "NU-R05" not in result.stderr
    assert load_model(out).step in range(4, 9)


@pytest.mark.slow
def test_all_step_down_together_and_skip_the_same_step(
    faulty: Path, data: Path, tmp_path: Path
) -> None:
    out, faults = tmp_path / "cells.unet", "1:memory:3 0:memory-at-the-end:5 1:nan:7"
    result = torchrun(faulty, *arguments(data, out), faults=faults)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("is now taken in 2 parts") == 1
    assert result.stderr.count("patches are 21 px now") == 1
    assert result.stderr.count("Step 7 was skipped") == 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["1:memory:6", "0:memory-at-the-end:6"])
def test_too_little_memory_in_a_size_that_fitted_ends_all_and_training_goes_on(
    fault: str, faulty: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cells.unet"
    result = torchrun(faulty, *arguments(data, out), faults=fault)
    assert result.returncode != 0
    assert result.stderr.count("[NU-R06]") == 1, result.stderr
    assert "NU-R05" not in result.stderr
    assert not out.exists()

    result = torchrun(faulty, *arguments(data, out, "--resume"))
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("Training goes on after step 4\n") == 1


@pytest.mark.slow
def test_a_batch_too_small_to_share_is_one_sentence(
    faulty: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cells.unet"
    result = torchrun(faulty, *arguments(data, out, batch_size=1))
    assert result.returncode != 0
    assert result.stderr.count("a batch of 1 patches can't be shared by 2") == 1


def test_outside_a_launcher_no_group_is_made(
    cells: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")  # of another program
    config = TrainConfig(**SETTINGS | {"max_steps": 1})
    *_, end = train(
        [cells[0]], [cells[1]], config, network=NetworkConfig(base_width=2, depth=1)
    )
    assert isinstance(end, Finished)
    assert join("cpu") is ALONE
    assert not dist.is_initialized()
    assert parallel.is_first_to_fail()


def test_a_launcher_is_known_by_all_that_it_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (launched.n_ranks(), launched.rank(), launched.local_rank()) == (1, 0, 0)
    own = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    assert (launched.n_ranks(), launched.rank(), launched.local_rank()) == (4, 3, 3)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert launched.local_rank() == 1
    monkeypatch.setenv("WORLD_SIZE", "many")
    assert launched.n_ranks() == 1


def test_what_processes_cannot_share_is_refused() -> None:
    several = Ranks()
    several.n = 4
    with pytest.raises(ConfigError, match="set batch_size to 4 or more"):
        several.check(3, CPU)
    with pytest.raises(ResourceError, match="one Apple GPU"):
        several.check(8, DeviceChoice("mps", "Apple GPU (MPS)"))
    several.check(4, CPU)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL needs two CUDA devices")
def test_gradients_add_up_over_nccl(folder: Path) -> None:
    script = folder / "nccl.py"
    script.write_text(
        "import torch\n"
        "from napari_unet.learning.loop.parallel import join, leave\n"
        "ranks = join('cuda')\n"
        "own = torch.full((4, 3, 3, 3), ranks.rank + 1.0, device='cuda')\n"
        "own = own.contiguous(memory_format=torch.channels_last)\n"
        "ranks.add_up([own])\n"
        "assert own.eq(3).all() and torch.cuda.current_device() == ranks.rank\n"
        "leave()\n"
    )
    result = torchrun(script)
    assert result.returncode == 0, result.stderr
