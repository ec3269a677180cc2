import random

import numpy as np
from PIL import Image


class Transform:
    def __init__(self, apply_image):
        self.apply_image = apply_image


def _resized(height: int, width: int) -> Transform:
    return Transform(
        lambda image: np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    )


class ResizeShortestEdge:
    def __init__(self, short_edge_length, max_size=10**9, sample_style="range", interp=Image.Resampling.BILINEAR):
        assert short_edge_length[0] == short_edge_length[1]
        self.short, self.long = short_edge_length[0], max_size

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        scale = min(self.short / min(height, width), self.long / max(height, width))
        return _resized(int(height * scale + 0.5), int(width * scale + 0.5))


class ResizeScale:
    def __init__(self, min_scale, max_scale, target_height, target_width, interp=Image.Resampling.BILINEAR):
        self.scales, self.target = (min_scale, max_scale), (target_height, target_width)

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        scale = random.uniform(*self.scales) * min(self.target[0] / height, self.target[1] / width)
        return _resized(round(height * scale), round(width * scale))


class FixedSizeCrop:
    def __init__(self, crop_size, pad=True, pad_value=128.0, seg_pad_value=255):
        self.size, self.value = crop_size, pad_value

    def get_transform(self, image: np.ndarray) -> Transform:
        def crop(image: np.ndarray) -> np.ndarray:
            found = np.full((*self.size, 3), self.value, dtype=np.uint8)
            part = image[: self.size[0], : self.size[1]]
            found[: part.shape[0], : part.shape[1]] = part
            return found

        return Transform(crop)


class RandomFlip:
    def __init__(self, prob=0.5, *, horizontal=True, vertical=False):
        self.prob = prob

    def get_transform(self, image: np.ndarray) -> Transform:
        flip = random.random() < self.prob
        return Transform(lambda image: image[:, ::-1] if flip else image)


class _Intensity:
    def __init__(self, intensity_min, intensity_max):
        self.range = (intensity_min, intensity_max)

    def get_transform(self, image: np.ndarray) -> Transform:
        weight = random.uniform(*self.range)
        return Transform(lambda image: (image * weight).clip(0, 255).astype(np.uint8))


class RandomBrightness(_Intensity):
    pass


class RandomContrast(_Intensity):
    pass


class RandomSaturation(_Intensity):
    pass
