from __future__ import annotations

import pytest

from napari_unet.cli import console, run, voice
from napari_unet.learning.loop import parallel

OF_TWO = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.fixture(autouse=True)
def _nothing_failed_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "_has_failed_first", None)
    monkeypatch.setattr(voice, "_LINGER_S", 0.0)


def become(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**OF_TWO, "RANK": str(rank)}.items():
        monkeypatch.setenv(name, value)


def test_one_process_alone_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["nonsense"]) == 2
    assert 'Unknown command "nonsense"' in capsys.readouterr().err
    assert voice._has_failed_first is None


@pytest.mark.parametrize(("rank", "said"), [(0, "here\n"), (1, "")])
def test_of_several_the_first_speaks(
    rank: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    become(rank, monkeypatch)
    console.say("here")
    console.say_error("here")
    console.show_table("", (), ())
    out, err = capsys.readouterr()
    assert out.startswith(said)
    assert bool(out) is bool(said)
    assert err == said


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("is_first_to_fail", [True, False])
def test_an_error_is_said_by_the_first_to_fail(
    rank: int,
    is_first_to_fail: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    become(rank, monkeypatch)
    monkeypatch.setattr(parallel, "is_first_to_fail", lambda: is_first_to_fail)
    assert run(["nonsense"]) == 2
    assert ("nonsense" in capsys.readouterr().err) is is_first_to_fail


def test_where_nobody_can_be_asked_each_one_speaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    become(1, monkeypatch)
    monkeypatch.setenv("MASTER_PORT", "nowhere")
    assert parallel.is_first_to_fail()
