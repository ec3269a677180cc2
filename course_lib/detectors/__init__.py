"""The detectors, one file a paper, and the presets that say which parts each is made of."""
