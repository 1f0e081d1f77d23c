"""Stop a set-up early where Python is too old or comes without venv."""

import sys

version = f"{sys.version_info[0]}.{sys.version_info[1]}"
if sys.version_info < (3, 11):  # noqa: UP036 - this is what tells so
    sys.exit(
        f"{sys.executable} is Python {version}, but 3.11 or newer is needed: "
        "install it, then run make again, with PYTHON=python3.12 for example"
    )
try:
    import ensurepip  # noqa: F401
except ImportError:
    sys.exit(
        "This Python comes without venv: sudo apt-get install "
        f"python{version}-venv, then run make again"
    )
