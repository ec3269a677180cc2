"""Weights from elsewhere: key maps for torchvision and Detectron2."""
