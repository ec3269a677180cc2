import torch
from torch.utils.data import Sampler


class TrainingSampler(Sampler):
    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None):
        self._size, self._seed = size, seed

    def __iter__(self):
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            yield from torch.randperm(self._size, generator=generator).tolist()
