"""A Detectron2 checkpoint of 44 million parameters as a model, against torch.load of the same arrays."""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.clock import alternate
from benchmarks.table import Row
from course_lib.detectors.presets.mask_rcnn import R50_DETECTRON2
from course_lib.weights.detectron2.checkpoint import write_checkpoint
from course_lib.weights.detectron2.models import import_detectron2

# In a process of its own: a thread reads the resident size a thousand times a second while the model is made.
MEMORY = """
import sys, threading, time
from pathlib import Path
from course_lib.weights.detectron2.models import import_detectron2
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096
small, large = sys.argv[1:]
import_detectron2(small)
before, seen, done = resident(), [0], threading.Event()
def watch():
    while not done.is_set():
        seen.append(resident())
        time.sleep(0.001)
thread = threading.Thread(target=watch)
thread.start()
model = import_detectron2(large)
done.set()
thread.join()
print(max(*seen, resident()) - before)
"""


def run(repeat: int, **_) -> list[Row]:
    """Time, and the most resident memory beyond what there was, the model included, for both kinds of file."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        narrow = R50_DETECTRON2.build(1)
        write_checkpoint(Path(folder) / "small.pth", narrow, R50_DETECTRON2)
        model = R50_DETECTRON2.build(80)
        paths = [Path(folder) / f"large.{suffix}" for suffix in ("pth", "pkl")]
        for path in paths:
            write_checkpoint(path, model, R50_DETECTRON2)
        for path in paths:
            seconds = alternate(
                lambda path=path: import_detectron2(path),
                lambda: torch.load(paths[0], weights_only=True),
                repeat,
            )
            size = path.stat().st_size
            rows.append(
                Row(what=f"Mask R-CNN from a {path.suffix}", ours=seconds[0], peer=seconds[1], unit="ms", at_most=2)
            )
            if Path("/proc/self/statm").exists():
                arguments = [sys.executable, "-c", MEMORY, str(Path(folder) / "small.pth"), str(path)]
                peak = int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
                rows.append(Row(what="  memory, to the file's size", ours=peak, peer=size, unit="MB", at_most=1.3))
    return rows
