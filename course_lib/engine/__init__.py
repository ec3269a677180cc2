"""Work that takes time: training, checkpoints, evaluation, prediction, the tour."""
