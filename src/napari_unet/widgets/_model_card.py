"""A model card on screen, and what the user writes on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QUrl, Signal
from qtpy.QtGui import QImage, QTextDocument, QTextOption
from qtpy.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QPlainTextEdit,
    QTextBrowser,
    QVBoxLayout,
)

from napari_unet.widgets._controls import Fold, button, describe, plain_label, rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qtpy.QtWidgets import QWidget

_SIZE_PX = (760, 720)
_MARGIN_PX = 40
_ABOUT_HEIGHT_PX = 70
# What was typed on cards whose dock was closed, until they are opened again.
_TYPED: dict[Path, tuple[str, str, str]] = {}


class CardBrowser(QTextBrowser):
    """Markdown with its pictures, which are never wider than it is."""

    def loadResource(self, kind: int, name: QUrl) -> Any:
        """Return a picture that lies beside the card; nothing else is loaded."""
        if (
            kind != QTextDocument.ResourceType.ImageResource.value
            or not name.isRelative()
        ):
            return None
        for folder in self.searchPaths():
            image = QImage(f"{folder}/{name.fileName()}")
            width = max(self.viewport_width() - _MARGIN_PX, 1)
            if not image.isNull():
                return image if image.width() <= width else image.scaledToWidth(width)
        return None

    def viewport_width(self) -> int:
        """Return how wide the text is, in pixels."""
        viewport = self.viewport()
        return self.width() if viewport is None else viewport.width()


class CardDialog(QDialog):
    """Show a card; authors, licence and purpose can be changed where that is allowed.

    Signals
    -------
    store_asked()
        The user wants what is written kept in the model.
    save_asked()
        The user wants the card as files.
    """

    store_asked = Signal()
    save_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._build()
        self._shown = self._typed()
        self._connect()

    def show_card(
        self,
        card: Path,
        *,
        title: str,
        authors: Sequence[str],
        license_id: str,
        about: str,
        may_change: bool,
    ) -> None:
        """Show a README.md with the pictures beside it."""
        self.setWindowTitle(f"Model card: {title}")
        self.browser.setSearchPaths([str(card.parent)])
        self.browser.setMarkdown(card.read_text(encoding="utf-8"))
        self.authors.setText("; ".join(authors))
        self.license.setText(license_id)
        self.about.setPlainText(about)
        self.named.setVisible(may_change)
        self.told.clear()
        self._shown = self._typed()

    def authors_given(self) -> list[str]:
        """Return the names that were typed."""
        names = (name.strip() for name in self.authors.text().split(";"))
        return [name for name in names if name]

    def set_busy(self, is_busy: bool) -> None:
        """Let nothing be typed or stored while the model is worked on."""
        for widget in (self.named.body, self.save):
            widget.setEnabled(not is_busy)

    def may_lose(self) -> bool:
        """Return whether nothing would be lost that was typed, or the user says so."""
        if not self.has_typed:
            return True
        answer = QMessageBox.question(
            self,
            "Model card",
            "What you typed is not kept in the model's file yet. Lose it?",
        )
        return answer == QMessageBox.StandardButton.Yes

    @property
    def has_typed(self) -> bool:
        """Whether something was typed that is not in the model yet."""
        return self.isVisible() and self._typed() != self._shown

    def remember(self, model: Path) -> bool:
        """Remember what was typed, as the card goes away unasked; False for nothing."""
        if self.has_typed:
            _TYPED[model] = self._typed()
        return self.has_typed

    def recall(self, model: Path) -> None:
        """Show what was remembered of a model's card, if anything was."""
        if model in _TYPED:
            authors, license_id, about = _TYPED.pop(model)
            self.authors.setText(authors)
            self.license.setText(license_id)
            self.about.setPlainText(about)
            self.named.heading.setChecked(True)
            self.told.setText("What you typed before is here; it is not kept yet.")

    def reject(self) -> None:
        """Close, by whatever means, unless the user wants to keep what was typed."""
        if self.may_lose():
            super().reject()

    def _typed(self) -> tuple[str, str, str]:
        about = self.about.toPlainText()
        return self.authors.text(), self.license.text(), about

    def _build(self) -> None:
        self.resize(*_SIZE_PX)
        self.browser = CardBrowser()
        # A long name must not make it scroll sideways.
        self.browser.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        describe(self.browser, "Model card", "What the file knows of its model")
        self.authors, self.license = QLineEdit(), QLineEdit()
        self.about = QPlainTextEdit()
        self.about.setMaximumHeight(_ABOUT_HEIGHT_PX)
        describe(self.authors, "Authors", "Who made the model; several with ;")
        describe(self.license, "Licence", "An SPDX id, such as CC-BY-4.0, CC0-1.0, MIT")
        describe(self.about, "About", "What the model is for, in a few sentences")
        self.store = button("Keep in the model", "Write these into the model's file")
        self.named = Fold(
            "Authors, licence, purpose",
            rows(
                ("Authors", self.authors),
                ("Licence", self.license),
                ("About", self.about),
            ),
            self.store,
        )
        self.told = plain_label("Message")
        self.save = button(
            "Save card …", "Write the card to a folder: README.md and its pictures"
        )
        self.dismiss = button("Close", "Close the card")
        for one in (self.store, self.save, self.dismiss):
            one.setAutoDefault(False)  # Enter in a field would press the first
        buttons = QHBoxLayout()
        buttons.addStretch()
        buttons.addWidget(self.save)
        buttons.addWidget(self.dismiss)
        layout = QVBoxLayout(self)
        layout.addWidget(self.browser, 1)
        layout.addWidget(self.named)
        layout.addWidget(self.told)
        layout.addLayout(buttons)

    def _connect(self) -> None:
        self.store.clicked.connect(self.store_asked)
        self.save.clicked.connect(self.save_asked)
        self.dismiss.clicked.connect(self.close)
