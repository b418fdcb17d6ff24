"""A fast BLAS for MLX's CPU build, whose Linux wheel links the slow reference implementation."""

from __future__ import annotations

import ctypes
import sys

LIBRARIES = ("libopenblas.so.0", "libopenblasp.so.0", "libopenblas.so")
"""What Debian and Arch, Fedora's threaded build, and development packages call it."""


def load_openblas() -> bool:
    """Put OpenBLAS's symbols before those that MLX links; to be called before MLX is imported.

    Returns:
        Whether MLX will use it; False on macOS, whose MLX has its own.
    """
    for library in LIBRARIES if sys.platform == "linux" else ():
        try:
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return True
    return False
