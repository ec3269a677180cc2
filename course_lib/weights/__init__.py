"""Weights: the course's own files and zoo, key maps for torchvision and Detectron2."""
