"""Boxes for the property tests."""

import torch
from hypothesis import strategies as st
from torch import Tensor


def random_boxes(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Boxes with sides of 1 to 61 px on a canvas of 160 px: (*shape, 4)."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(*shape, 2, generator=generator, dtype=dtype) * 100
    side = torch.rand(*shape, 2, generator=generator, dtype=dtype) * 60 + 1
    return torch.cat((corner, corner + side), dim=-1)


@st.composite
def whole_boxes(draw, min_size: int = 0, max_size: int = 6, canvas: int = 12) -> Tensor:
    """Boxes on whole pixels: their areas are exact in floats and equal overlaps (ties) are common."""
    place, side = st.integers(0, canvas // 2), st.integers(1, canvas // 2)
    rows = draw(st.lists(st.tuples(place, place, side, side), min_size=min_size, max_size=max_size))
    return torch.tensor([(x, y, x + w, y + h) for x, y, w, h in rows], dtype=torch.float32).reshape(-1, 4)
