"""Our speed and memory as ratios to the peers': `python -m benchmarks`, or `make bench`."""
