"""A fair comparison of detectors: one command, the same data, backbone, budget, seeds and threads for all."""
