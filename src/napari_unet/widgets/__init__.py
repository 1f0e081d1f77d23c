"""The dock widgets: the only room that imports Qt or napari."""
