"""`python -m benchmarks.rival --data DIR`: our RetinaNet against torchvision's, the same minutes on any COCO folder.

Both train from scratch on the same threads, one after the other, each in a process of its own, and are judged by the
same evaluation on the validation split. Ours has nothing set. The peer is what a careful user of torchvision would
write: its RetinaNet class on a small ResNet with a pyramid, images at their own size, AdamW with
warm-up and cosine, clipped gradients, flips.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.transforms.v2 import functional as F

from course_lib.datasets.coco import CocoDetection, open_split
from course_lib.detectors.presets import TINY, octaves
from course_lib.engine.evaluate import detect_dataset, evaluate_results
from course_lib.engine.recipe import Recipe
from course_lib.engine.run import pick_precision, train_run
from course_lib.machine import cores_allowed
from course_lib.nn.backbones import ResNet

BATCH, RATE, WARMUP = 8, 1e-3, 0.03  # of the peer


def main() -> None:
    """Train and judge both and print a table; with `--side`, one of them in this process."""
    options = _parse()
    if options.side:
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        train = open_split(options.data, "train")
        model, seen = {"ours": train_ours, "torchvision": train_peer}[options.side](
            train, options.minutes, options.seed
        )
        val = open_split(options.data, "val", label_map=train.label_map)
        summary = evaluate_results(val.coco, detect_dataset(model, val)[0]).summary
        parameters = sum(p.numel() for p in model.parameters())
        print(json.dumps({**summary, "parameters": parameters, "seen": seen}))
        return
    print(f"{'':12}     AP   AP50   AP75  parameters  images seen", flush=True)
    for side in ("torchvision", "ours"):
        arguments = [f"--{key}={value}" for key, value in vars(options).items() if key != "side"]
        command = [sys.executable, "-m", "benchmarks.rival", f"--side={side}", *arguments]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        figures = "  ".join(f"{found[key]:.3f}" for key in ("AP", "AP50", "AP75"))
        print(f"{side:12}  {figures}  {found['parameters']:10,}  {found['seen']:11,}", flush=True)


def train_ours(train: CocoDetection, minutes: float, seed: int) -> tuple[nn.Module, int]:
    """What `course train retinanet --data DIR --minutes M` makes, and how many images it saw."""
    recipe = Recipe(minutes=minutes, seed=seed, precision=pick_precision("auto"))
    with tempfile.TemporaryDirectory() as out:
        trainer = train_run(TINY, recipe, train_data=train, val_data=None, out=Path(out), device="cpu", progress=False)
    trainer.model.load_state_dict(trainer.average)
    return trainer.model, trainer.iteration * recipe.batch_size


def train_peer(train: CocoDetection, minutes: float, seed: int) -> tuple[nn.Module, int]:
    """torchvision's RetinaNet after the same time, and how many images it saw."""
    height, width = train.sizes().max(0)
    model = FromBytes(small_torchvision(len(train.label_map), (int(height), int(width)))).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.02)
    order: list[int] = []
    iteration, begin = 0, time.perf_counter()
    while (spent := (time.perf_counter() - begin) / (60 * minutes)) < 1:
        batch = []
        for _ in range(BATCH):
            order = order or torch.randperm(len(train)).tolist()
            batch.append(_flipped(*train[order.pop()]))
        factor = min(1.0, (spent + 1e-3) / WARMUP) * 0.5 * (1 + math.cos(math.pi * spent))
        for group in optimizer.param_groups:
            group["lr"] = RATE * factor
        optimizer.zero_grad()
        sum(model(*zip(*batch)).values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        iteration += 1
    return model, iteration * BATCH


def _flipped(image: Tensor, target: dict) -> tuple[Tensor, dict]:
    """The picture and its objects without crowds, mirrored half of the time."""
    boxes = target["boxes"]
    if torch.rand(()) < 0.5:
        image, boxes = F.horizontal_flip(image), F.horizontal_flip(boxes)
    keep = ~target["iscrowd"]
    return image.as_subclass(Tensor), {"boxes": boxes.as_subclass(Tensor)[keep], "labels": target["labels"][keep]}


def small_torchvision(num_classes: int, size: tuple[int, int]) -> RetinaNet:
    """torchvision's class on the tiny preset's ResNet, with a pyramid and towers of 64 channels.

    Four levels of strides 8 to 64 with anchors of 16 to 203 px in three sizes and three ratios; towers of four
    convolutions, as the class has them. size: the largest (height, width) of the images, which keep their own size
    up to 640 px.
    """
    body = ResNet(**vars(TINY.backbone))
    stages = {f"layer{number - 1}": f"c{number}" for number in (3, 4, 5)}
    backbone = BackboneWithFPN(body, stages, [body.channels[level] for level in stages.values()], 64)
    sizes = tuple(octaves(side, rounding=True) for side in (16, 32, 64, 128))
    limit = min(1.0, 640 / max(size))
    sides = {"min_size": round(limit * min(size)), "max_size": round(limit * max(size))}
    return RetinaNet(backbone, num_classes, anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 4), **sides)


class FromBytes(nn.Module):
    """A torchvision detector that takes pictures of bytes, as our data sets give them."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images, targets=None):
        """Losses or detections, as torchvision's."""
        return self.model([image / 255 for image in images], targets)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rival", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a COCO folder with a train and a val split")
    parser.add_argument("--minutes", type=float, default=4.0, help="of training, each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=cores_allowed(), help="of each (default: %(default)s)")
    parser.add_argument("--side", choices=("ours", "torchvision"), help="train this one alone and print JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
