"""Panoptic segmentation: every pixel gets a class, and every thing its own number."""
