"""Pure functions on tensors: boxes, anchors, matching, losses, suppression. No modules, no I/O, no state."""
