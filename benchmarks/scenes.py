"""Town scenes as tensors: what the detectors under measurement look at."""

from collections.abc import Iterable

import torch
from torch import Tensor

from course_lib.datasets.town import Scene, TownConfig, draw_scene


def town_targets(config: TownConfig, indices: Iterable[int]) -> list[dict[str, Tensor]]:
    """Targets `boxes` (N, 4) and `labels` (N,) of the scenes, without crowds."""
    return [_target(draw_scene(config, 0, index)) for index in indices]


def town_batch(config: TownConfig, indices: Iterable[int]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Pictures (3, H, W) in 0 … 1 and targets of the scenes."""
    scenes = [draw_scene(config, 0, index) for index in indices]
    images = [torch.from_numpy(s.image).permute(2, 0, 1).contiguous().float() / 255 for s in scenes]
    return images, [_target(scene) for scene in scenes]


def _target(scene: Scene) -> dict[str, Tensor]:
    things = [s for s in scene.segments if s["isthing"] and not s["iscrowd"]]
    boxes = torch.tensor([s["bbox"] for s in things], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return {"boxes": boxes, "labels": torch.tensor([s["category_id"] - 1 for s in things], dtype=torch.int64)}
