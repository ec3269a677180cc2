"""Pictures: boxes and masks on an image, plots, one colour-blind-safe palette."""
