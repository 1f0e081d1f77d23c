"""Exit with 0 only if Qt can open a window with OpenGL here, as napari does."""

import os
import sys

if sys.platform.startswith("linux") and not (
    os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
):
    sys.exit(1)
os.environ.pop("QT_QPA_PLATFORM", None)  # offscreen would pass and draw nothing

from PyQt6.QtGui import QGuiApplication, QOpenGLContext

application = QGuiApplication(sys.argv[:1])
sys.exit(0 if QOpenGLContext().create() else 1)
