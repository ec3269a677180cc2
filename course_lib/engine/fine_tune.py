"""Fine-tuning: a training that starts from weights that exist, a whole detector's or a backbone's alone.

Of a detector everything stays as it was made, anchors and input size included, but what predicts the classes, if the
data has others. Around a backbone the preset's parts are new, and fitted to the data as in any training.
"""

from dataclasses import dataclass, replace

from torch import nn

from course_lib.datasets.label_map import LabelMap
from course_lib.detectors.presets import Preset, get_preset
from course_lib.nn.preprocess import InputSpec
from course_lib.weights.imported import Imported, class_tensors, stuff_tensors
from course_lib.weights.keys import LoadReport
from course_lib.weights.sources import open_start
from course_lib.weights.torchvision.imagenet import Backbone, load_backbone


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    Attributes:
        source: the weights' name or file, as it was given.
        preset: of the model to train.
        weights: a detector, whose preset it is, or a backbone, for which the preset was made.
    """

    source: str
    preset: Preset
    weights: Imported | Backbone

    @property
    def whole(self) -> bool:
        """Whether they are a detector's."""
        return isinstance(self.weights, Imported)

    def load(self, model: nn.Module, label_map: LabelMap, stuff_map: LabelMap | None = None) -> LoadReport:
        """Give the weights to a model just built, whose own stay where these have none; use it once.

        Args:
            model: of `preset`, perhaps fitted to the data, for so many classes.
            label_map: of the data.
            stuff_map: of its stuff, if the model tells stuff.
        """
        if isinstance(self.weights, Backbone):
            return load_backbone(model, self.weights.state)
        fresh: list[str] = []
        if _names(label_map) != _names(self.weights.label_map):
            fresh += class_tensors(self.preset)
        if hasattr(self.preset, "num_stuff") and _names(stuff_map) != _names(self.weights.stuff_map):
            fresh += stuff_tensors(self.preset)
        kept = {name: value for name, value in self.weights.model.state_dict().items() if name not in fresh}
        model.load_state_dict(kept, strict=False, assign=True)
        return LoadReport(used={name: name for name in kept}, fresh=tuple(dict.fromkeys(fresh)))


def start_from(source: str, family: str, preset: str | None = None, *, download: bool = True) -> Start:
    """Find the weights to start from, and what is to be trained with them.

    Args:
        source: a detector or a backbone, see `open_start`.
        family: what is to be trained.
        preset: by name, "tiny" by default; its backbone becomes the network that the weights are of, and pixels are
            normalised as that was trained. A detector brings its own.
        download: whether published weights may be fetched from the net.

    Raises:
        FileNotFoundError, ValueError, OSError: as `open_start`; and ValueError for a detector of another family or with
            another preset, or a backbone that the preset has no place for.
    """
    chosen = get_preset(preset or "tiny", family)  # before a large file is read
    weights = open_start(source, download=download)
    if isinstance(weights, Imported):
        own = weights.preset
        if own.family != family:
            raise ValueError(f"{source} is a {own.family}, and a {family} cannot start from it; train a {own.family}")
        if preset not in (None, own.name):
            raise ValueError(f"{source} has its own preset, {own.name}, and not {preset}: leave the preset out")
        return Start(source, own, weights)
    if chosen.backbone is None:
        raise ValueError(f"{source} is a ResNet, and the {family} {chosen.name} has another backbone; choose a preset")
    backbone = replace(weights.spec, levels=chosen.backbone.levels)
    pixels = {name: getattr(InputSpec(), name) for name in ("mean", "std", "bgr", "scale")}
    return Start(source, replace(chosen, backbone=backbone, input=replace(chosen.input, **pixels)), weights)


def with_frozen(preset: Preset, stages: int) -> Preset:
    """The preset with so many parts of its backbone frozen: 1 is the stem, 2 the stem and the first stage, and so on.

    Raises:
        ValueError: for more than there are, or a backbone other than a ResNet.
    """
    if preset.backbone is None:
        raise ValueError(f"the {preset.family} {preset.name} has no ResNet; only a ResNet's stages can be frozen")
    if not 0 <= stages <= 5:
        raise ValueError(f"a ResNet has a stem and four stages: freeze 0 to 5 of them, not {stages}")
    return replace(preset, backbone=replace(preset.backbone, frozen_stages=stages))


def in_words(start: Start | None, report: LoadReport | None, model: nn.Module) -> list[str]:
    """What a training starts from, and what of it will not move; nothing where all is random and free."""
    lines = []
    if start is not None:
        part = "the detector" if start.whole else "the backbone alone"
        lines += [f"{part} starts from {start.weights.source}", str(report)]
    parts = ("the stem", "stage 1", "stage 2", "stage 3", "stage 4")[: getattr(model.backbone, "frozen_stages", 0)]
    if parts:
        parameters = list(model.backbone.parameters())
        frozen = sum(p.numel() for p in parameters if not p.requires_grad)
        random = "" if start is not None else ", at the random values that they start with: give --weights"
        lines.append(
            f"frozen: {', '.join(parts)} of the backbone, {frozen:,} of {sum(p.numel() for p in parameters):,} weights"
            + random
        )
    return lines


def _names(label_map: LabelMap | None) -> tuple[str, ...]:
    return () if label_map is None else label_map.names
