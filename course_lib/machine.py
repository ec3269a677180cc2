"""What this process may use of the machine: cores and memory. Standard library only."""

import contextlib
import ctypes
import math
import os
import platform
import re
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # a Linux container's limits
MEMINFO = Path("/proc/meminfo")
CPUINFO = Path("/proc/cpuinfo")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of this process


def cores_allowed() -> int:
    """How many cores this process may use: the affinity mask and, in a container, the CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = CGROUP / "cpu.max"  # "<microseconds of CPU, or max> <in so many microseconds>"
    if quota.is_file():
        budget, period = quota.read_text().split()
        if budget != "max":
            cores = min(cores, math.ceil(int(budget) / int(period)))
    return cores


def processor_name() -> str:
    """What the processor is called, as far as the system says."""
    if CPUINFO.is_file() and (match := re.search(r"^model name\s*: (.+)$", CPUINFO.read_text(), re.MULTILINE)):
        return match[1].strip()
    return platform.processor() or platform.machine()


def peak_memory() -> int | None:
    """The most memory in bytes that this process has held (on Linux, since `forget_peak_memory`); None on Windows."""
    if STATUS.is_file():
        return int(re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def forget_peak_memory() -> None:
    """Let the peak be what this process holds now; only Linux can."""
    with contextlib.suppress(OSError):
        if CLEAR.exists():
            CLEAR.write_text("5")


def memory_available() -> int | None:
    """Bytes of memory that a program may still take (macOS: bytes in the machine); None where unknown."""
    if sys.platform == "win32":
        status = (ctypes.c_uint64 * 8)(64)  # MEMORYSTATUSEX: its own length, total, available, ...
        return int(status[2]) if ctypes.windll.kernel32.GlobalMemoryStatusEx(status) else None
    if sys.platform == "darwin":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = []
    if MEMINFO.is_file() and (match := re.search(r"MemAvailable:\s+(\d+) kB", MEMINFO.read_text())):
        free.append(int(match[1]) * 1024)
    limit = CGROUP / "memory.max"
    if limit.is_file() and (most := limit.read_text().strip()) != "max":
        free.append(int(most) - int((CGROUP / "memory.current").read_text()))
    return min(free, default=None)
