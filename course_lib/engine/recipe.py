"""How to train: budget, optimizer, schedule, augmentation."""

from dataclasses import dataclass

SCALES = {"flip": (1.0, 1.0), "strong": (0.8, 1.25)}  # range of the random scale of each augmentation
PEAK_RATE = 6e-3  # for a dense detector of a few hundred thousand weights under AdamW


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train; the defaults are the tiny preset's.

    Attributes:
        minutes, iterations: the budget; exactly one is set. With minutes, the schedule follows the clock.
        seed: of weights, order and augmentation.
        batch_size: images a step.
        optimizer: "adamw" or "sgd" (momentum 0.9).
        learning_rate: the peak; None is the preset's, which `engine.plan.fit` fills in, and `PEAK_RATE` without one.
        backbone_rate: the backbone's share of that rate, above 0 and at most 1; little of it keeps what pretrained
            weights know.
        weight_decay: of the optimizer; norms and biases are not decayed.
        warmup: share of the budget over which the rate rises linearly; then it falls as a cosine to 1 % of the peak.
        clip: largest gradient norm.
        ema: decay of the weights' moving average, which is what is evaluated and saved.
        precision: "fp32" or "bf16" (autocast; weights and optimizer stay fp32).
        augmentation: "flip" (left to right), "strong" (also scale, crop and colours), or "auto": strong when the
            budget buys so many passes over the images that they would be learnt by heart.
        input_size: (height, width) of the network's input, rounded up to what it can take; None lets
            `engine.plan.fit` choose it by data and budget.
        evaluations: how often the validation images are judged on the way.
        evaluation_images: how many of them.
    """

    minutes: float | None = None
    iterations: int | None = None
    seed: int = 0
    batch_size: int = 8
    optimizer: str = "adamw"
    learning_rate: float | None = None
    backbone_rate: float = 1.0
    weight_decay: float = 0.02
    warmup: float = 0.03
    clip: float = 10.0
    ema: float = 0.99
    precision: str = "fp32"
    augmentation: str = "auto"
    input_size: tuple[int, int] | None = None
    evaluations: int = 5
    evaluation_images: int = 100

    def __post_init__(self):
        if (self.minutes is None) == (self.iterations is None):
            raise ValueError("give the budget as minutes or as iterations, one of the two")
        if self.augmentation not in ("auto", "flip", "strong"):
            raise ValueError(f"augmentation must be auto, flip or strong, not {self.augmentation!r}")
        if not 0 < self.backbone_rate <= 1:
            raise ValueError(
                f"backbone_rate is a share of the learning rate, above 0 and at most 1, not {self.backbone_rate}; "
                "to leave the backbone as it is, freeze all its stages"
            )

    @property
    def peak_rate(self) -> float:
        """The learning rate at its peak."""
        return PEAK_RATE if self.learning_rate is None else self.learning_rate
