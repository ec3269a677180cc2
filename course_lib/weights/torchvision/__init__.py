"""torchvision's detection weights in our models: where each of its names lives here."""

from course_lib.weights.torchvision.retinanet import retinanet_from_torchvision, retinanet_preset

__all__ = ["retinanet_from_torchvision", "retinanet_preset"]
