"""Ask the C library to keep the memory that tensors free, since training asks for the same sizes again at once."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # from glibc's malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc's allocator not to hand freed tensors back to the system.

    By default every block over a few hundred kilobytes is mapped anew and given back when freed, and the first touch
    of each of its pages costs a fault. A training step allocates the same tensors each time: kept, they cost nothing.
    The numbers computed do not change.

    Returns:
        True if it was done: on Linux with glibc; elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    largest = 2**31 - 1
    return all(mallopt(key, value) for key, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, largest), (M_TOP_PAD, 2**26)))
