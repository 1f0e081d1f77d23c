"""The reference says what the config models say, and the tables what was measured."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("page", "made_by"),
    [("docs/reference.md", "reference"), ("docs/science/measured.md", "measured")],
)
def test_what_a_script_writes_is_up_to_date(page: str, made_by: str) -> None:
    spec = importlib.util.spec_from_file_location(
        "make_reference", ROOT / "scripts" / "make_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == getattr(module, made_by)(), "run python scripts/make_reference.py"


def test_every_error_code_is_explained() -> None:
    source = (ROOT / "src" / "napari_unet").rglob("*.py")
    used = {c for p in source for c in re.findall(r'"(NU-[A-Z]\d\d)"', p.read_text())}
    explained = re.findall(r"NU-[A-Z]\d\d", (ROOT / "docs" / "errors.md").read_text())
    assert used == set(explained)
    assert len(explained) == len(set(explained))
