import random

import torch


def seed_all_rng(seed=None) -> None:
    assert 0 <= seed < 2**32  # NumPy's generator, which the real one seeds, too, takes no other
    torch.manual_seed(seed)
    random.seed(seed)
