"""How fast: the latency of one image after another, in turns, and the arithmetic that it takes."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from course_lib.engine.compare.parts import ORDER, clocked_parts
from course_lib.engine.optimize import optimize

ROUNDS = 5  # in which each model has its turn
WARM_UP = 2  # images at the start of a turn that are not counted: the caches hold another model's weights
COUNTED = 3  # images whose arithmetic is counted; that of proposals differs a little from image to image


def latencies(models: Mapping[str, nn.Module], images: Sequence[Tensor], *, rounds: int = ROUNDS) -> dict[str, dict]:
    """Milliseconds from an image to its detections, one image at a time, of several detectors.

    The models take turns, so that whatever else the machine does in the meantime meets all of them. They run as they
    would be used: batch norms folded, channels-last, fp32 (`engine.optimize`).

    Args:
        models: detectors by name, on the CPU.
        images: (3, H, W), at their own sizes; each turn takes all of them.
        rounds: turns of each model.

    Returns:
        for each name "median", "p95" and "parts": the mean of each part. The parts sum to the mean.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    parts: dict[str, dict[str, float]] = {}
    with _evaluating(models):
        fast = {name: optimize(model) for name, model in models.items()}
    for _ in range(rounds):
        for name, model in fast.items():
            _time(model, images[:WARM_UP])
            with clocked_parts(model) as seconds:
                times[name] += _time(model, images)
            for part, value in seconds.items():
                parts.setdefault(name, dict.fromkeys(ORDER[:-1], 0.0))[part] += value
    found = {}
    for name, values in times.items():
        each = {part: 1000 * value / len(values) for part, value in parts[name].items()}
        each["postprocess"] = 1000 * float(np.mean(values)) - sum(each.values())
        found[name] = {
            "median": round(1000 * float(np.median(values)), 3),
            "p95": round(1000 * float(np.quantile(values, 0.95)), 3),
            "parts": {part: round(each[part], 3) for part in ORDER},
        }
    return found


@torch.inference_mode()
def _time(model: nn.Module, images: Sequence[Tensor]) -> list[float]:
    times = []
    for image in images:
        begin = time.perf_counter()
        model([image])
        times.append(time.perf_counter() - begin)
    return times


@contextmanager
def _evaluating(models: Mapping[str, nn.Module]) -> Iterator[None]:
    """All models in evaluation mode, and each as it was afterwards."""
    training = {name: model.training for name, model in models.items()}
    for model in models.values():
        model.eval()
    try:
        yield
    finally:
        for name, model in models.items():
            model.train(training[name])


def gigaflops(model: nn.Module, images: Sequence[Tensor]) -> float:
    """Floating-point operations for one image, in 10⁹: the mean over images (3, H, W).

    As torch's counter counts them: of convolutions and matrix products, a multiplication and an addition as two.
    """
    with _evaluating({"": model}), torch.no_grad(), FlopCounterMode(display=False) as counter:
        for image in images:
            model([image])
    return counter.get_total_flops() / len(images) / 1e9
