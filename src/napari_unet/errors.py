"""The errors that napari-unet raises, each with a stable code.

None derives from `RuntimeError`: Qt's stock workers swallow those.
"""

from __future__ import annotations


class UNetError(Exception):
    """What went wrong, in one sentence that says what to do about it.

    Parameters
    ----------
    code : str
        Stable code of the kind of fault, such as ``"NU-I01"``.
    message : str
        What came, what was expected and what to do; names the file or layer.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"


class ImageError(UNetError):
    """An image can't be read or used (NU-I..)."""


class LabelError(UNetError):
    """An annotation or a label image can't be used (NU-L..)."""


class FolderError(UNetError):
    """A file or folder is missing, empty or not what it should be (NU-F..)."""


class SaveError(UNetError):
    """A file could not be written; what was there before is untouched (NU-S..)."""


class ModelError(UNetError):
    """A model file can't be used (NU-M..)."""


class ConfigError(UNetError):
    """A setting or a settings file is not valid (NU-C..)."""


class ResourceError(UNetError):
    """The machine can't do what was asked: memory, device, library (NU-R..)."""
