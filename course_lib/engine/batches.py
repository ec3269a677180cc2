"""Training batches by number: what iteration t sees depends on (seed, t) alone."""

import torch
from torch import Tensor

from course_lib.datasets.coco import CocoDetection

OF_OBJECTS = ("boxes", "labels", "masks")
LEARNT = (*OF_OBJECTS, "semantic")  # what a detector may learn of an image


class BatchStream:
    """Batches by number: `stream[t]` is the same whenever and however often it is asked for.

    Args:
        dataset: the training images.
        transform: `transform(image, target, generator)` to images of one size.
        batch_size: B.
        seed: of order and augmentation.
    """

    def __init__(self, dataset: CocoDetection, transform, batch_size: int, seed: int):
        self.dataset, self.transform, self.batch_size, self.seed = dataset, transform, batch_size, seed
        self._epoch, self._order = -1, []

    def __getitem__(self, iteration: int) -> tuple[Tensor, list[dict]]:
        """Images (B, 3, H, W) uint8 and their targets, without crowds."""
        samples = [self._sample(iteration * self.batch_size + k) for k in range(self.batch_size)]
        return torch.stack([image for image, _ in samples]), [target for _, target in samples]

    def _sample(self, number: int) -> tuple[Tensor, dict]:
        epoch, position = divmod(number, len(self.dataset))
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(mix(self.seed, 1, epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self.dataset), generator=generator).tolist()
        image, target = self.dataset[self._order[position]]
        generator = torch.Generator().manual_seed(mix(self.seed, 2, number))
        image, target = self.transform(image, target, generator)
        keep = ~target["iscrowd"]
        plain = {key: target[key].as_subclass(Tensor) for key in LEARNT if key in target}
        plain |= {key: plain[key][keep] for key in OF_OBJECTS if key in plain}
        return image.as_subclass(Tensor), plain | {"image_id": target["image_id"]}


def mix(*numbers: int) -> int:
    """One seed of 63 bits from several numbers (splitmix64's finaliser), so that neighbours are unrelated."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1
