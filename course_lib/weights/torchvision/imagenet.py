"""torchvision's ImageNet classifiers as backbones: ResNet, ResNeXt and Wide ResNet, of any depth."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torchvision.models import WeightsEnum

from course_lib.detectors.presets import ResNetSpec
from course_lib.weights.imported import check_finite
from course_lib.weights.keys import LoadReport, Rule, load_renamed
from course_lib.weights.torchvision.models import State, fetch, published_weights, read_state

BACKBONES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
SIGNS = {"conv1.weight", "layer1.0.conv1.weight"}  # names that of all files only theirs have


@dataclass(frozen=True)
class Backbone:
    """The weights of a classifier, and the network that they are of.

    Attributes:
        spec: with frozen norms, and the stem and the first stage frozen: what both peers do with such weights.
        state: by torchvision's names.
        source: where it came from, in words.
    """

    spec: ResNetSpec
    state: State
    source: str


def open_backbone(source: str | WeightsEnum, *, download: bool = True) -> Backbone:
    """A published classifier, from torch's cache or from the net.

    Args:
        source: a name of `BACKBONES`, a member of torchvision's weights enums, or the member's name.
        download: whether what is not in the cache may be fetched.

    Raises:
        ValueError, FileNotFoundError, OSError: as `fetch`; and ValueError for another name, or what is no ResNet.
    """
    weights = published_weights(source, BACKBONES)
    if weights is None:
        raise ValueError(f"{source}: no backbone of that name; there are {', '.join(BACKBONES)}")
    path = fetch(weights, download=download)
    return backbone_of(path, read_state(path))


def is_backbone(state: State) -> bool:
    """Whether these are the names of a classifier of this kind, and not of a detector."""
    return state.keys() >= SIGNS


def backbone_of(path: Path, state: State) -> Backbone:
    """The classifier that a state dict is of; `path` is named in errors.

    Raises:
        ValueError: if it is of another network, or half of one, or has NaN or infinity.
    """
    try:
        spec = _spec(state)
    except KeyError as error:
        raise ValueError(
            f"{path}: not all of a torchvision ResNet, there is no {error.args[0]}; half a file, or another network"
        ) from None
    check_finite(state, str(path))
    return Backbone(spec, state, f"torchvision {path.name}")


def load_backbone(model: nn.Module, state: State) -> LoadReport:
    """Load a classifier's weights into a detector's backbone; the classifier itself and stages not built are left out.

    Raises:
        ValueError: if they are another network's; nothing is loaded.
    """
    stages = len(model.backbone.channels)
    rules: list[Rule] = [(r"fc\..*", None), *[(rf"layer{i}\..*", None) for i in range(stages + 1, 5)]]
    if "bn1.num_batches_tracked" not in model.backbone.state_dict():
        rules.append((r".*\.num_batches_tracked", None))  # frozen norms count no steps
    return load_renamed(model.backbone, state, [*rules, (r"(.*)", r"\1")])


def _spec(state: State) -> ResNetSpec:
    """What the shapes say; KeyError names what is missing."""
    last = 3 if "layer1.0.conv3.weight" in state else 2  # the block's last convolution
    expansion = 4 if last == 3 else 1
    widths = tuple(state[f"layer{i}.0.conv{last}.weight"].shape[0] // expansion for i in range(1, 5))
    inner = state["layer1.0.conv1.weight"].shape[0]
    return ResNetSpec(
        blocks=tuple(len({name.split(".")[1] for name in state if name.startswith(f"layer{i}.")}) for i in range(1, 5)),
        bottleneck=last == 3,
        stem_width=state["conv1.weight"].shape[0],
        widths=widths,
        groups=inner // state["layer1.0.conv2.weight"].shape[1],
        widening=inner // widths[0],
    )
