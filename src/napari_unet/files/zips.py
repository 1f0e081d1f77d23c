"""What can go wrong in a zip, for all who read one in memory."""

from __future__ import annotations

import struct
import zipfile
import zlib
from lzma import LZMAError

# What zipfile and its codecs raise on damaged files.
RAISED_ON_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    LZMAError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
