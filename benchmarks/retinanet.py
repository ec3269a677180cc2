"""RetinaNet R-50 at 480×640 against torchvision's, with the same weights: inference and a training step."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from benchmarks.clock import alternate
from benchmarks.scenes import town_batch
from benchmarks.table import Row
from course_lib.datasets.town import TownConfig
from course_lib.detectors.retinanet import RetinaNet
from course_lib.engine.optimize import optimize
from course_lib.weights.torchvision import retinanet_from_torchvision, retinanet_preset

SIZE = (480, 640)
CANDIDATES = 2000  # scores over the threshold in one image: what trained weights give on a full COCO picture
CLASSES = 91  # torchvision's
PRIOR = -math.log(99)


def run_inference(repeat: int, **_) -> list[Row]:
    """One picture, from pixels to boxes, after `optimize`, in fp32 and in bf16; the peer is in fp32 both times."""
    peer = torchvision_retinanet()
    plain = our_retinanet(peer)
    images, _ = town_batch(TownConfig(size=SIZE), [0])
    rows = []
    for bf16, target in ((False, 0.85), (True, 0.5)):
        ours = optimize(plain, bf16=bf16)
        with torch.inference_mode():
            seconds = alternate(lambda model=ours: model(images), lambda: peer(images), repeat)
            logits, scores, deltas = output_difference(ours, plain, images)
        name = "bf16" if bf16 else "fp32"
        limit = None if bf16 else 1e-4
        rows += [
            Row(what=f"RetinaNet R-50, {name} inference", ours=seconds[0], peer=seconds[1], unit="ms", at_most=target),
            Row(what="  largest change of a logit by optimize()", ours=logits, at_most=limit),
            Row(what="  … of a score", ours=scores, at_most=limit),
            Row(what="  … of a box delta", ours=deltas, at_most=limit),
        ]
    return rows


def run_training(repeat: int, **_) -> list[Row]:
    """Losses and gradients of a batch of two; batch norm and the first two stages frozen, as in fine-tuning.

    Ours is in channels-last memory, as the trainer has it.
    """
    peer = torchvision_retinanet().train()
    ours = our_retinanet(peer).to(memory_format=torch.channels_last).train()
    images, targets = town_batch(TownConfig(size=SIZE), [0, 1])
    seconds = alternate(training_step(ours, images, targets), training_step(peer, images, targets), repeat)
    return [
        Row(what="RetinaNet R-50, training step, batch 2", ours=seconds[0], peer=seconds[1], unit="ms", at_most=0.9)
    ]


def training_step(model: nn.Module, images: list[Tensor], targets: list[dict]) -> Callable[[], None]:
    """A function that works out losses and gradients."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        losses = model(images, [dict(t) for t in targets])
        sum(losses.values()).backward()

    return step


def output_difference(model: RetinaNet, other: RetinaNet, images: list[Tensor]) -> tuple[float, float, float]:
    """The largest differences of logits, scores and box deltas over all anchors."""
    found = [m.dense(m.preprocess(images).images) for m in (model, other)]
    (logits, deltas), (other_logits, other_deltas) = [[torch.cat(part, 1).float() for part in f[:2]] for f in found]
    pairs = ((logits, other_logits), (logits.sigmoid(), other_logits.sigmoid()), (deltas, other_deltas))
    return tuple((a - b).abs().max().item() for a, b in pairs)


def our_retinanet(peer: detection.RetinaNet) -> RetinaNet:
    """Our network with the peer's weights and input size."""
    state = peer.state_dict()
    preset = retinanet_preset(state)
    return retinanet_from_torchvision(state, replace(preset, input=replace(preset.input, size=SIZE)))


def torchvision_retinanet() -> detection.RetinaNet:
    """torchvision's `retinanet_resnet50_fpn` as its published weights make it, with random weights that behave.

    That is: frozen batch norm of epsilon 0, the first two stages not trained. Pictures of 480×640 are not resized.
    Random weights of a deep network explode or vanish; so the statistics of batch norm are measured on four pictures,
    which keeps every map near unit variance, and the last layer is scaled so that one picture has 2,000 candidates.
    """
    torch.manual_seed(0)
    measuring = _build(nn.BatchNorm2d).train()
    for name, parameter in measuring.head.named_parameters():
        if name.endswith("weight"):
            nn.init.kaiming_normal_(parameter, nonlinearity="relu")
    measuring.head.regression_head.bbox_reg.weight.data.mul_(0.1)
    for module in measuring.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of what was seen, with no memory of their initial values
    pictures, _ = town_batch(TownConfig(size=SIZE), range(1, 5))
    with torch.inference_mode():
        measuring.backbone(measuring.transform(pictures)[0].tensors)
        _set_candidates(measuring.eval(), town_batch(TownConfig(size=SIZE), [0])[0])
    model = _build(FrozenBatchNorm2d)
    model.load_state_dict(measuring.state_dict())
    overwrite_eps(model, 0.0)
    return model.eval()


def _build(norm: type[nn.Module]) -> detection.RetinaNet:
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=norm,
        trainable_layers=3,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    return detection.RetinaNet(backbone, CLASSES, min_size=SIZE[0], max_size=SIZE[1])


def _set_candidates(model: detection.RetinaNet, pictures: list[Tensor]) -> None:
    """Scale the last layer so that `CANDIDATES` scores pass the threshold; the bias stays the prior's."""
    features = list(model.backbone(model.transform(pictures)[0].tensors).values())
    spread = model.head(features)["cls_logits"].flatten().topk(CANDIDATES).values[-1] - PRIOR
    needed = math.log(model.score_thresh / (1 - model.score_thresh)) - PRIOR
    model.head.classification_head.cls_logits.weight.mul_(needed / spread)
