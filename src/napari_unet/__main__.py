"""Run the command line as ``python -m napari_unet``."""

from napari_unet.cli import main

if __name__ == "__main__":
    main()
