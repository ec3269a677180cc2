from enum import IntEnum

from torch import Tensor


class BoxMode(IntEnum):
    XYXY_ABS = 0
    XYWH_ABS = 1


class Boxes:
    def __init__(self, tensor: Tensor):
        self.tensor = tensor


class Instances:
    def __init__(self, image_size: tuple[int, int], **kwargs):
        self.image_size = image_size
        self.__dict__.update(kwargs)
