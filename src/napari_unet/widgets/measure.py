"""Dock widget: a row for each cell of a Labels layer, a plot, and a file of them."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_unet.errors import LabelError
from napari_unet.widgets._controls import button, fill_dock, plain_label
from napari_unet.widgets._layers import unwrapped
from napari_unet.widgets._measure_choice import CellsChoice
from napari_unet.widgets._measure_clicks import CellClicks
from napari_unet.widgets._measure_freshness import Freshness
from napari_unet.widgets._measure_layers import Rings, look_at, show_features
from napari_unet.widgets._measure_plot import CellPlot
from napari_unet.widgets._measure_table import CellTable
from napari_unet.widgets._measure_work import Measured, measuring, saving
from napari_unet.widgets._run import RunPanel
from napari_unet.widgets._worker import Failure, guarded

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_unet.events import Event

_MEASURING = "Measuring"
_TABLES = "Tables (*.csv)"
_STALE = "⚠ Out of date: the labels have changed since. Measure them again."
_GONE = "⚠ The labels that were measured are not open any more."


class MeasureWidget(QWidget):
    """Measure the cells of a Labels layer; look at them by row, by click and by plot.

    Parameters
    ----------
    napari_viewer : napari viewer
        Given by napari.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self._measured: Measured | None = None
        self._layer: weakref.ref[Labels] | None = None
        self._asked: weakref.ref[Labels] | None = None
        self._region = np.zeros(0, np.intp)
        self._rings = Rings(self._viewer)
        self._freshness = Freshness(self)
        self._build()
        self._clicks = CellClicks(self._viewer, self._layer_to_click, self)
        self._connect()
        self._render()

    @property
    def is_stale(self) -> bool:
        """Whether the labels are others than those that were measured."""
        return self._freshness.is_stale

    @property
    def is_busy(self) -> bool:
        """Whether something is measured, saved or compared, or will be at once."""
        return self.panel.state.is_running or self._freshness.is_busy

    def measured_layer(self) -> Labels | None:
        """Return the layer whose cells are in the table, or None."""
        layer = None if self._layer is None else self._layer()
        is_open = layer is not None and layer in self._viewer.layers
        return layer if is_open else None

    def show_failure(self, failure: Failure) -> None:
        """Show what went wrong in a slot."""
        self.panel.show_failure(failure)

    def save_to(self, path: Path) -> None:
        """Write the table as CSV in the background; a path without suffix gets one."""
        if self._measured is None:
            raise LabelError("NU-L04", "no cells are measured yet: press “Measure”")
        path = path if path.suffix else path.with_suffix(".csv")
        columns = self._measured.columns
        self.panel.run(lambda: saving(path, columns), what="Saving")
        self._render()

    def changeEvent(self, event: QEvent | None) -> None:
        """Hide the rings with a dock that is closed for good."""
        super().changeEvent(event)
        is_moved = event is not None and event.type() == QEvent.Type.ParentChange
        if is_moved and self.parentWidget() is None:
            self._rings.hide()

    # -- layout -----------------------------------------------------------------

    def _build(self) -> None:
        self.choice = CellsChoice(self._viewer)
        self.panel = RunPanel(_MEASURING, start_text="Measure")
        self.stale = plain_label("What has changed")
        self.table = CellTable(self._viewer)
        self.save_button = button(
            "Save as CSV …", "Write all rows, in the order of planes and ids"
        )
        self.plot = CellPlot(self._viewer)
        fill_dock(
            self,
            self.choice,
            self.panel,
            self.stale,
            self.table,
            self.save_button,
            self.plot,
            growing=(self.table, self.plot),
        )

    def _connect(self) -> None:
        self.choice.failed.connect(self.show_failure)
        self.panel.start_asked.connect(self._start)
        self.panel.happened.connect(self._on_events)
        self.panel.ended.connect(self._render)
        self.table.chosen.connect(self._on_rows)
        self.plot.chosen.connect(self._on_region)
        self.plot.failed.connect(self.show_failure)
        self.save_button.clicked.connect(self._save)
        self._clicks.clicked.connect(self._on_click)
        self._freshness.changed.connect(self._render)
        self._freshness.failed.connect(self.show_failure)
        self._viewer.layers.events.removed.connect(self._on_removed)
        self._viewer.dims.events.current_step.connect(self._on_step)

    # -- drawing ----------------------------------------------------------------

    @guarded
    def _render(self) -> None:
        has_rows, is_at_work = self._measured is not None, self.panel.state.is_running
        self.save_button.setEnabled(has_rows and not is_at_work)
        is_gone = has_rows and self.measured_layer() is None
        self.stale.setText(_GONE if is_gone else _STALE if self.is_stale else "")
        self.stale.setVisible(is_gone or self.is_stale)

    def _draw_chosen(self) -> None:
        """Show the cells of the region, and those that are chosen in the table."""
        chosen = self.table.chosen_cells()
        cells = np.union1d(self._region, chosen).astype(np.intp)
        self.plot.mark(cells)
        there = self._there()
        if there is None:
            self._rings.hide()
            return
        layer, measured = there
        self._rings.show(
            layer,
            measured.positions[cells],
            measured.diameters_px[cells],
            is_one=np.isin(cells, chosen if len(chosen) == 1 else ()),
            are_volumes=measured.n_dims == 3,
        )

    def _there(self) -> tuple[Labels, Measured] | None:
        """Return what is measured while it is there, with the axes that it had."""
        layer, measured = self.measured_layer(), self._measured
        if layer is None or measured is None:
            return None
        is_as_it_was = layer.ndim == measured.positions.shape[1]
        return (layer, measured) if is_as_it_was else None

    # -- measuring --------------------------------------------------------------

    @guarded
    def _start(self) -> None:
        given = self.choice.take()
        self._asked = weakref.ref(self.choice.labels_box.layer())
        self.panel.run(lambda: measuring(given))
        self._render()

    @guarded
    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Measured):
                self._show(event)

    def _show(self, measured: Measured) -> None:
        self._measured, self._layer = measured, self._asked
        self._region = np.zeros(0, np.intp)
        self.table.show_columns(measured.columns)
        self.plot.show_columns(measured.columns)
        layer = self.measured_layer()
        if layer is not None:
            self._show_features(layer, measured)
        self._freshness.watch(layer, measured.digest)
        self._draw_chosen()

    def _show_features(self, layer: Labels, measured: Measured) -> None:
        columns = measured.columns
        if not measured.is_one_a_label:
            # A label has one row: that of the plane on screen.
            world = self._viewer.dims.point[-layer.ndim :]
            here = measured.on_plane(np.asarray(layer.world_to_data(world)))
            columns = {name: column[here] for name, column in columns.items()}
        show_features(layer, columns)

    @guarded
    def _on_step(self) -> None:
        there = self._there()
        if there is not None and not there[1].is_one_a_label:
            self._show_features(*there)

    @guarded
    def _on_removed(self, event: Any) -> None:
        asked = None if self._asked is None else self._asked()
        is_in_vain = asked is None or event.value is asked
        if is_in_vain and self.panel.state.what == _MEASURING:
            self.panel.abort()
        if self._layer is not None and event.value is self._layer():
            self._rings.hide()
        self._render()

    # -- choosing ---------------------------------------------------------------

    @guarded
    def _on_rows(self) -> None:
        cells, there = self.table.chosen_cells(), self._there()
        if len(cells) == 1 and there is not None:
            (layer, measured), cell = there, cells[0]
            place, diameter = measured.positions[cell], measured.diameters_px[cell]
            look_at(self._viewer, layer, place, diameter)
            layer.selected_label = int(measured.columns["label"][cell])
        self._draw_chosen()

    @guarded
    def _on_region(self, cells: NDArray[np.intp]) -> None:
        self._region = cells
        self.table.put_first(cells)
        self._draw_chosen()

    @guarded
    def _on_click(self, label: int, place: NDArray[np.float64]) -> None:
        measured = self._measured
        cell = None if measured is None else measured.cell_at(label, place)
        if cell is not None:
            self.table.choose(np.array([cell]))
            self._draw_chosen()

    def _layer_to_click(self) -> Labels | None:
        return self.measured_layer() if self.isVisible() else None

    @guarded
    def _save(self) -> None:
        layer = self.measured_layer()
        name = "cells" if layer is None else str(layer.name)
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Save as CSV", f"{name}.csv", _TABLES
        )
        if chosen:
            self.save_to(Path(chosen))
