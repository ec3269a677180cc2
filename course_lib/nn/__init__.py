"""Building blocks with weights: backbones, the feature pyramid, heads."""
