"""How many Town scenes are drawn in a second. Imports no torch: the workers import this file."""

import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor

from benchmarks.table import Row
from course_lib.datasets.town import TownConfig, draw_scene

PROCESSES = 2
SCENES = 600  # that each process draws, a sample


def run(repeat: int, **_) -> list[Row]:
    """Scenes of 128×128 with every dial at its default; the two processes are up and warm before the clock starts."""
    alone = statistics.median(SCENES / draw(0) for _ in range(repeat))
    rates = []
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(draw, range(PROCESSES)))  # starts and warms them
        for _ in range(repeat):
            begin = time.perf_counter()
            list(pool.map(draw, range(PROCESSES)))
            rates.append(PROCESSES * SCENES / (time.perf_counter() - begin))
    return [
        Row(what="Town 128×128, two processes", ours=statistics.median(rates), unit="images/s", at_least=1000),
        Row(what="  one process", ours=alone, unit="images/s"),
    ]


def draw(part: int) -> float:
    """Draw one process's share of the scenes; seconds that it took."""
    begin = time.perf_counter()
    for index in range(part * SCENES, (part + 1) * SCENES):
        draw_scene(TownConfig(), 0, index)
    return time.perf_counter() - begin
