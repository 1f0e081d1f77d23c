"""Small controls that several dock widgets show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from qtpy.QtWidgets import QLayout

_TITLE_CHARACTERS = 15
_WIDTH_PX = 340


def describe(widget: QWidget, name: str, tooltip: str) -> None:
    """Give a control its accessible name and its tooltip."""
    widget.setAccessibleName(name)
    widget.setToolTip(tooltip)


class _WrappingLabel(QLabel):
    """A label that is never too narrow or too low for Qt; it gets the lines it needs.

    Qt's own asks for the lines that it would have at its least width, and several of
    them beneath each other make a dock scroll that has room enough. A long name without
    spaces would widen the dock.
    """

    def sizeHint(self) -> QSize:
        """Return the size of one line, of no width: `heightForWidth` says the rest."""
        return QSize(1, self.fontMetrics().height())

    def minimumSizeHint(self) -> QSize:
        """Return what `sizeHint` does."""
        return self.sizeHint()

    def heightForWidth(self, width: int) -> int:
        """Return the height of the lines, of one even where there is no text."""
        return max(super().heightForWidth(width), self.sizeHint().height())


def plain_label(name: str, text: str = "") -> QLabel:
    """Return a label that wraps, and shows a file's or layer's name as it is."""
    label = _WrappingLabel(text)
    # Names come from files and layers: never let Qt take them for HTML.
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setAccessibleName(name)
    policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    policy.setHeightForWidth(True)
    label.setSizePolicy(policy)
    return label


def button(text: str, tooltip: str, *, name: str = "") -> QPushButton:
    """Return a button whose accessible name is its text, or `name`."""
    made = QPushButton(text)
    describe(made, name or text, tooltip)
    return made


def question(name: str, *answers: QPushButton) -> tuple[QWidget, QLabel]:
    """Return a box with the answers to a question beneath it, and its empty label."""
    box, label, buttons = QWidget(), plain_label(name), QHBoxLayout()
    for answer in answers:
        buttons.addWidget(answer)
    layout = QVBoxLayout(box)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(label)
    layout.addLayout(buttons)
    return box, label


class Fold(QWidget):
    """A heading that shows or hides what is beneath it; hidden at first."""

    def __init__(
        self, title: str, *content: QWidget, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.heading = QToolButton()
        self.heading.setText(title)
        self.heading.setCheckable(True)
        self.heading.setAutoRaise(True)
        self.heading.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.heading.setArrowType(Qt.ArrowType.RightArrow)
        describe(self.heading, title, f"Show or hide: {title.lower()}")
        self.body = QWidget()
        layout = QVBoxLayout(self.body)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in content:
            layout.addWidget(widget)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(2)
        outer.addWidget(self.heading)
        outer.addWidget(self.body)
        self.heading.toggled.connect(self._toggle)
        self.body.hide()

    def _toggle(self, is_open: bool) -> None:
        arrow = Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow
        self.heading.setArrowType(arrow)
        self.body.setVisible(is_open)


class PathRow(QWidget):
    """A path to type, or to choose by a dialogue.

    Parameters
    ----------
    name : str
        What the path is, such as "Input folder".
    tooltip : str
        What it is for.
    mode : {"folder", "open", "save"}
        What the dialogue asks for.
    pattern : str
        The dialogue's filter of files.
    """

    changed = Signal()

    def __init__(
        self,
        name: str,
        tooltip: str,
        *,
        mode: Literal["folder", "open", "save"] = "folder",
        pattern: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._name, self._mode, self._pattern = name, mode, pattern
        self.edit = QLineEdit()
        self.edit.setPlaceholderText(name)
        describe(self.edit, name, tooltip)
        self.browse = QPushButton("…")
        self.browse.setMaximumWidth(32)
        describe(self.browse, f"Choose: {name}", tooltip)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.edit)
        layout.addWidget(self.browse)
        self.edit.textChanged.connect(self.changed.emit)
        self.browse.clicked.connect(self._browse)

    def path(self) -> Path | None:
        """Return the path, or None where nothing is given."""
        text = self.edit.text().strip()
        return Path(text).expanduser() if text else None

    def set_path(self, path: Path | str) -> None:
        """Show `path`."""
        self.edit.setText(str(path))

    def _browse(self) -> None:
        start = self.edit.text()
        if self._mode == "folder":
            chosen = QFileDialog.getExistingDirectory(self, self._name, start)
        elif self._mode == "open":
            chosen, _ = QFileDialog.getOpenFileName(
                self, self._name, start, self._pattern
            )
        else:
            chosen, _ = QFileDialog.getSaveFileName(
                self, self._name, start, self._pattern
            )
        if chosen:
            self.edit.setText(chosen)


def rows(*titled: tuple[str, QWidget]) -> QWidget:
    """Return controls beneath each other, each with its title to the left.

    The titles are of one width, so that several such groups line up.
    """
    group = QWidget()
    layout = QFormLayout(group)
    layout.setContentsMargins(0, 0, 0, 0)
    for title, control in titled:
        label = QLabel(title)
        label.setToolTip(control.toolTip())
        least = _TITLE_CHARACTERS * label.fontMetrics().averageCharWidth()
        label.setMinimumWidth(max(least, label.sizeHint().width()))
        layout.addRow(label, control)
    return group


def set_row_visible(control: QWidget, is_visible: bool) -> None:
    """Show or hide a control of `rows`, with its title."""
    group = control.parentWidget()
    layout = None if group is None else group.layout()
    if isinstance(layout, QFormLayout):
        layout.setRowVisible(control, is_visible)


def fill_dock(
    dock: QWidget, *parts: QWidget | QLayout, growing: Collection[QWidget] = ()
) -> None:
    """Put parts into a dock, one beneath the other; what is too tall is scrolled.

    Those that are `growing` share the room that is left; without any it is beneath.
    """
    content = QWidget()
    layout = QVBoxLayout(content)
    for part in parts:
        if isinstance(part, QWidget):
            layout.addWidget(part, 1 if part in growing else 0)
        else:
            layout.addLayout(part)
    if not growing:
        layout.addStretch()
    outer = QVBoxLayout(dock)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.addWidget(scrollable(content))


def scrollable(content: QWidget) -> QScrollArea:
    """Return a frameless area that scrolls `content` up and down only."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    # An area has no width of its own, and would cut off what is wider.
    area.setMinimumWidth(_WIDTH_PX)
    area.setWidget(content)
    return area
