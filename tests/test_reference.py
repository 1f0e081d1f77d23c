"""The reference says what the config models say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_reference_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location(
        "make_reference", ROOT / "scripts" / "make_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert text == module.reference(), "run python scripts/make_reference.py"


def test_every_error_code_is_explained() -> None:
    source = (ROOT / "src" / "napari_unet").rglob("*.py")
    used = {c for p in source for c in re.findall(r'"(NU-[A-Z]\d\d)"', p.read_text())}
    explained = re.findall(r"NU-[A-Z]\d\d", (ROOT / "docs" / "errors.md").read_text())
    assert used == set(explained)
    assert len(explained) == len(set(explained))
