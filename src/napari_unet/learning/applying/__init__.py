"""A network applied to an image: tiles, scale, outputs."""
