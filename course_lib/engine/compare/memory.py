"""How much memory a detector takes, in a process of its own: nothing else can be in the figures.

    python -m course_lib.engine.compare.memory RUN DATA --batch B --threads T

prints {"inference": bytes, "training": bytes}, each above what the program held before the first image.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from course_lib.datasets.coco import open_split
from course_lib.datasets.label_map import LabelMap
from course_lib.datasets.transforms import train_transform
from course_lib.engine.batches import BatchStream
from course_lib.engine.compare.detectron2 import make_trainer, take_step
from course_lib.engine.compare.runs import open_run
from course_lib.engine.recipe import Recipe
from course_lib.engine.train import fast_memory_format, make_optimizer
from course_lib.machine import forget_peak_memory, peak_memory

IMAGES, STEPS = 16, 3


def peak_of_run(run: Path, data: Path, *, batch: int, threads: int) -> dict[str, float | None]:
    """Peak memory in MB of a trained run: of inference, an image at a time, and of training, `batch` images a step.

    None where the system does not tell.

    Raises:
        RuntimeError: if the process fails; it says how.
    """
    command = [sys.executable, "-m", __name__, str(run), str(data), f"--batch={batch}", f"--threads={threads}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {run} failed: {done.stderr.strip() or done.returncode}")
    found = json.loads(done.stdout)
    return {key: None if value is None else round(value / 2**20, 1) for key, value in found.items()}


def measure(run: Path, data: Path, batch: int) -> dict[str, int | None]:
    """What `peak_of_run` asks of its process: bytes above what it holds before the first image."""
    model, header = open_run(run)
    dataset = open_split(data, "train", label_map=LabelMap.from_dict(header["label_map"]))
    if getattr(model, "uses_masks", False):
        dataset = dataset.with_masks()
    size = tuple(header.get("size", header["preset"]["input"]["size"]))
    recipe = Recipe(**{**header["recipe"], "input_size": None, "batch_size": batch})
    stream = BatchStream(dataset, train_transform(size), batch, seed=0)
    images, targets = stream[0]
    forget_peak_memory()
    before = peak_memory()
    with torch.inference_mode():
        for image in images[:IMAGES]:
            model([image])
    inference = peak_memory()
    if "detectron2" in header:
        optimizer = make_optimizer(model, recipe)
        trainer = make_trainer(model, optimizer, recipe, train_data=dataset, size=size, seed=0)
        for step in range(STEPS):
            take_step(trainer, step)
    else:
        _train(model, recipe, images, targets)
    training = peak_memory()
    above = lambda value: None if value is None else value - before  # noqa: E731
    return {"inference": above(inference), "training": above(training)}


def _train(model: nn.Module, recipe: Recipe, images: Tensor, targets: list[dict]) -> None:
    memory_format = fast_memory_format(model)
    model.to(memory_format=memory_format).train()
    optimizer = make_optimizer(model, recipe)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            sum(model(images.contiguous(memory_format=memory_format), targets).values()).backward()
            optimizer.step()


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.engine.compare.memory")
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    print(json.dumps(measure(arguments.run, arguments.data, arguments.batch)))


if __name__ == "__main__":
    main()
