"""Measuring: two functions in turns, and the most memory that one of them takes."""

import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

SAMPLE_SECONDS = 0.1  # a function faster than this is called often enough in a row


def alternate(ours: Callable[[], object], peer: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Median seconds a call of two functions, measured in turns so that a slow minute of the machine hits both.

    Each is called once to warm up; every other round begins with the peer.
    """
    functions = (ours, peer)
    numbers = [_calls_in_a_sample(f) for f in functions]
    samples: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeat):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            samples[which].append(_seconds(functions[which], numbers[which]))
    return statistics.median(samples[0]), statistics.median(samples[1])


def _calls_in_a_sample(function: Callable[[], object]) -> int:
    function()
    return max(1, round(SAMPLE_SECONDS / _seconds(function, 1)))


def _seconds(function: Callable[[], object], number: int) -> float:
    gc.collect()
    begin = time.perf_counter()
    for _ in range(number):
        function()
    return (time.perf_counter() - begin) / number


def peak_extra_bytes(function: Callable[[], object]) -> int:
    """The most memory that tensors take at one moment of a call, beyond what was there before it.

    torch's profiler records each allocation and release of tensor memory; the peak is the largest running sum. Unlike
    the resident size of a process that is exact, repeatable, the same on every system, and blind to what the
    allocator keeps for later; on Linux it agrees with the resident size of a fresh process to a few MB. Memory inside
    a library kernel that does not come from torch's allocator is not seen; the losses measured here have none.
    """
    function()  # what is allocated once, at the first call, is no part of it
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [(e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        held += change
        peak = max(peak, held)
    return peak
