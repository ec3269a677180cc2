"""The library behind the course: detection from focal loss to panoptic segmentation, on a CPU."""

__version__ = "0.1.0"
