"""torchvision's published detectors by name: from its cache, from the net, or from a file of the user's."""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model_weights

from course_lib.datasets.label_map import LabelMap
from course_lib.detectors.presets import SSD300_TORCHVISION, Preset
from course_lib.weights.blank import without_initialisation
from course_lib.weights.detectron2.checkpoint import read_torch
from course_lib.weights.imported import Imported, check_finite, generic_labels, with_classes
from course_lib.weights.keys import LoadReport
from course_lib.weights.labels import torchvision_labels
from course_lib.weights.torchvision.faster_rcnn import faster_rcnn_from_torchvision, faster_rcnn_preset
from course_lib.weights.torchvision.mask_rcnn import mask_rcnn_from_torchvision, mask_rcnn_preset
from course_lib.weights.torchvision.retinanet import retinanet_from_torchvision, retinanet_preset
from course_lib.weights.torchvision.ssd import ssd_from_torchvision

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Family:
    """How a kind of torchvision detector is read.

    Attributes:
        sign: a name that only its weights have, of those that are tried in order.
        preset_of: which preset the weights ask for.
        read: the weights and a preset to a model.
    """

    sign: str
    preset_of: Callable[[State], Preset]
    read: Callable[[State, Preset], nn.Module]


RETINANET = Family("head.classification_head.cls_logits.bias", retinanet_preset, retinanet_from_torchvision)
MASK_RCNN = Family("roi_heads.mask_predictor.mask_fcn_logits.bias", mask_rcnn_preset, mask_rcnn_from_torchvision)
FASTER_RCNN = Family("roi_heads.box_predictor.cls_score.bias", faster_rcnn_preset, faster_rcnn_from_torchvision)
SSD = Family("head.classification_head.module_list.0.bias", lambda state: SSD300_TORCHVISION, ssd_from_torchvision)
FAMILIES = (RETINANET, MASK_RCNN, FASTER_RCNN, SSD)
MODELS = {
    "retinanet_resnet50_fpn": RETINANET,
    "retinanet_resnet50_fpn_v2": RETINANET,
    "fasterrcnn_resnet50_fpn": FASTER_RCNN,
    "fasterrcnn_resnet50_fpn_v2": FASTER_RCNN,
    "maskrcnn_resnet50_fpn": MASK_RCNN,
    "maskrcnn_resnet50_fpn_v2": MASK_RCNN,
    "ssd300_vgg16": SSD,
}


def import_torchvision(
    source: str | Path | WeightsEnum,
    *,
    label_map: LabelMap | None = None,
    num_classes: int | None = None,
    download: bool = True,
) -> Imported:
    """A torchvision detector.

    Args:
        source: a name of `MODELS`, a member of torchvision's weights enums, its name, or a file with a state dict.
        label_map: of its labels; by default what torchvision's metadata say, or numbers.
        num_classes: start the class predictor afresh for so many classes, everything else keeps its weights; the
            report names what is fresh. Draws from torch's global generator.
        download: whether what is not in torch's cache may be fetched from the net.

    Raises:
        FileNotFoundError: if a file is not there, or not in the cache and may not be fetched.
        OSError: if the net cannot be reached.
        ValueError: for an unknown name, a damaged file (one in the cache is removed), other weights than a detector's
            of these families, NaN or infinity.
    """
    weights = published_weights(source, MODELS)
    path = Path(str(source)) if weights is None else fetch(weights, download=download)
    state = read_state(path)
    found = import_state(path, state, weights.meta["categories"] if weights else None, label_map)
    if num_classes is not None:
        found = with_classes(found, generic_labels(num_classes))
    return found


def import_state(
    path: Path, state: State, categories: list[str] | None = None, label_map: LabelMap | None = None
) -> Imported:
    """The detector that a torchvision state dict is of; `path` is named in errors.

    Raises:
        ValueError: if it is of none of these families, half of one, or has NaN or infinity.
    """
    family = next((f for f in FAMILIES if f.sign in state), None)
    if family is None:
        raise ValueError(f"{path}: not the weights of a torchvision detector that is known: {', '.join(MODELS)}")
    preset = family.preset_of(state)
    try:
        with without_initialisation():
            model = family.read(state, preset)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    check_finite(model.state_dict(), str(path))
    if label_map is None:
        known = categories is not None and len(categories) - model.num_classes in (0, 1)
        label_map = torchvision_labels(categories, model.num_classes) if known else _usual(model.num_classes)
    elif len(label_map) != model.num_classes:
        raise ValueError(f"{path}: {model.num_classes} classes, but labels for {len(label_map)}")
    report = LoadReport(used={name: name for name in state})
    return Imported(model, preset, label_map, report, f"torchvision {path.name}")


def _usual(num_classes: int) -> LabelMap:
    """COCO's, if there are as many outputs as torchvision has for COCO."""
    categories = get_model_weights("retinanet_resnet50_fpn").COCO_V1.meta["categories"]
    if len(categories) - num_classes in (0, 1):
        return torchvision_labels(categories, num_classes)
    return generic_labels(num_classes)


def cached(weights: WeightsEnum) -> Path:
    """Where torch's cache has, or would have, the file of published weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[1]


def fetch(weights: WeightsEnum, *, download: bool = True) -> Path:
    """The file of published weights, from torch's cache or from the net; its hash is that of its name.

    Raises:
        FileNotFoundError: if it is not in the cache and may not be fetched.
        OSError: if the net cannot be reached or the download broke off; the cache is as it was before.
        ValueError: if the hash is another; such a file does not stay in the cache.
    """
    path = cached(weights)
    prefix = re.search(r"-([0-9a-f]{8,})\.", path.name).group(1)
    if not path.exists():
        if not download:
            raise FileNotFoundError(f"{path}: not in torch's cache; fetch {weights.url} and put it there")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(weights.url, str(path), prefix, progress=True)
        except RuntimeError as error:  # torch removes what it fetched
            raise ValueError(f"{weights.url}: half a download or another file, {error}; nothing was kept") from None
        except (URLError, OSError) as error:
            raise OSError(f"cannot fetch {weights.url}: {error}. Fetch it elsewhere and put it at {path}") from None
    elif not _sha256(path).startswith(prefix):
        path.unlink()
        raise ValueError(
            f"{path}: its hash is not the {prefix}… of its name: damaged, or half a download. It was removed from the "
            "cache; run again to fetch it"
        )
    return path


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict in a file. Raises FileNotFoundError, and ValueError for anything else."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    data = read_torch(path)
    state = data.get("model", data) if isinstance(data, dict) else data
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path}: expected a state dict, tensors by name")
    return dict(state)


def published_weights(source: str | Path | WeightsEnum, names: Iterable[str]) -> WeightsEnum | None:
    """The member of torchvision's weights enums that is meant, if it is of one of these models.

    Args:
        source: a member, its name ("ResNet50_Weights.IMAGENET1K_V1"), or a model's, which means its default.
        names: of the models.
    """
    for name in names:
        members = get_model_weights(name)
        if source == name:
            return members.DEFAULT
        for member in members:
            if source in (member, str(member)):
                return member
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
