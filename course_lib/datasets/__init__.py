"""Data sets: Town (procedural scenes), COCO folders, their validation and augmentation."""
