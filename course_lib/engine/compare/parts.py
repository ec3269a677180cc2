"""Where the time of a detector goes: clocks at the doors of its parts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

PARTS = {  # the detector API's children, by what they do
    "preprocess": "preprocess",
    "backbone": "backbone",
    "fpn": "backbone",
    "rpn": "proposals",
    "proposal_generator": "proposals",  # these two are Detectron2's names
    "roi_heads": "head",
    "head": "head",
    "class_head": "head",
    "box_head": "head",
    "mask_head": "head",
    "semantic_head": "head",
}
ORDER = ("preprocess", "backbone", "proposals", "head", "postprocess")  # as a picture passes them


@contextmanager
def clocked_parts(model: nn.Module) -> Iterator[dict[str, float]]:
    """A dict that gathers the seconds spent in each of `PARTS` while the model is called inside the block.

    It is done with forward hooks, on the processor's clock, so the device must be the CPU. What happens in no child,
    the choice of boxes, is in no part here.
    """
    seconds = dict.fromkeys(ORDER[:-1], 0.0)
    begun: dict[str, float] = {}
    handles = []
    for name, child in getattr(model, "detectron2", model).named_children():  # Detectron2's are a level deeper
        if name not in PARTS:
            continue

        def begin(module, inputs, name=name):
            begun[name] = time.perf_counter()

        def end(module, inputs, output, name=name):
            seconds[PARTS[name]] += time.perf_counter() - begun[name]

        handles += [child.register_forward_pre_hook(begin), child.register_forward_hook(end)]
    try:
        yield seconds
    finally:
        for handle in handles:
            handle.remove()
