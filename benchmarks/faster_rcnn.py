"""Faster R-CNN R-50 at 480×640 against torchvision's, with the same weights: inference and a training step."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from benchmarks.clock import alternate
from benchmarks.retinanet import CLASSES, SIZE, training_step
from benchmarks.scenes import town_batch
from benchmarks.table import Row
from course_lib.datasets.town import TownConfig
from course_lib.detectors.faster_rcnn import FasterRCNN
from course_lib.engine.optimize import optimize
from course_lib.weights.torchvision import faster_rcnn_from_torchvision, faster_rcnn_preset


def run_inference(repeat: int, **_) -> list[Row]:
    """One picture, from pixels to boxes, after `optimize`, in fp32 and in bf16; the peer is in fp32 both times."""
    peer = torchvision_faster_rcnn()
    plain = our_faster_rcnn(peer)
    images, _ = town_batch(TownConfig(size=SIZE), [0])
    rows = []
    for bf16, target in ((False, 0.9), (True, None)):
        ours = optimize(plain, bf16=bf16)
        with torch.inference_mode():
            seconds = alternate(lambda model=ours: model(images), lambda: peer(images), repeat)
        what = f"Faster R-CNN R-50, {'bf16' if bf16 else 'fp32'} inference"
        rows.append(Row(what=what, ours=seconds[0], peer=seconds[1], unit="ms", at_most=target))
    return rows


def run_training(repeat: int, **_) -> list[Row]:
    """Losses and gradients of a batch of two; batch norm and the first two stages frozen, as in fine-tuning.

    Ours is in channels-last memory, as the trainer has it. Both draw 256 anchors and 512 proposals a picture.
    """
    peer = torchvision_faster_rcnn().train()
    ours = our_faster_rcnn(peer).to(memory_format=torch.channels_last).train()
    images, targets = town_batch(TownConfig(size=SIZE), [0, 1])
    with_background = [t | {"labels": t["labels"] + 1} for t in targets]
    seconds = alternate(training_step(ours, images, targets), training_step(peer, images, with_background), repeat)
    return [
        Row(what="Faster R-CNN R-50, training step, batch 2", ours=seconds[0], peer=seconds[1], unit="ms", at_most=0.9)
    ]


def our_faster_rcnn(peer: detection.FasterRCNN) -> FasterRCNN:
    """Our network with the peer's weights and input size."""
    state = peer.state_dict()
    preset = faster_rcnn_preset(state)
    return faster_rcnn_from_torchvision(state, replace(preset, input=replace(preset.input, size=SIZE)))


def torchvision_faster_rcnn() -> detection.FasterRCNN:
    """torchvision's `fasterrcnn_resnet50_fpn` as its published weights make it, with random weights that behave.

    That is: frozen batch norm of epsilon 0, the first two stages not trained. Pictures of 480×640 are not resized. The
    statistics of batch norm are measured on pictures, see `torchvision_retinanet`, and what the predictors say is
    spread so that a picture has 1,000 proposals and a few hundred boxes over the score.
    """
    torch.manual_seed(0)
    measuring = _build(nn.BatchNorm2d).train()
    for module in measuring.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of what was seen, with no memory of their initial values
    pictures, _ = town_batch(TownConfig(size=SIZE), range(1, 5))
    with torch.no_grad():
        measuring.backbone(measuring.transform(pictures)[0].tensors)
    spread_outputs(measuring.eval(), predictors(measuring), pictures[:1])
    measuring.roi_heads.box_predictor.cls_score.bias.data[0] += 5  # most proposals are background
    model = _build(FrozenBatchNorm2d)
    model.load_state_dict(measuring.state_dict())
    overwrite_eps(model, 0.0)
    return model.eval()


def predictors(model: detection.FasterRCNN) -> list[tuple[nn.Module, float]]:
    """The last layers of both stages and how far what they say should spread, in the order that they are run."""
    boxes = model.roi_heads.box_predictor
    return [
        (model.rpn.head.cls_logits, 2.0),
        (model.rpn.head.bbox_pred, 0.3),
        (boxes.cls_score, 2.5),
        (boxes.bbox_pred, 1.0),
    ]


@torch.no_grad()
def spread_outputs(model: nn.Module, layers: list[tuple[nn.Module, float]], pictures: list[Tensor]) -> None:
    """Shift and scale what each layer says about the pictures: boxes of many sizes, classes and scores.

    Deep random features are large and alike everywhere, so without this all boxes would be of one class.
    """
    for layer, spread in layers:
        outputs = []
        hook = layer.register_forward_hook(lambda *args, seen=outputs: seen.append(args[2].transpose(0, 1).flatten(1)))
        model(pictures)
        hook.remove()
        mean, scale = torch.cat(outputs, 1).mean(1), spread / torch.cat(outputs, 1).std(1)  # of each output
        layer.bias.copy_((layer.bias - mean) * scale)
        layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))


def _build(norm: type[nn.Module]) -> detection.FasterRCNN:
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=norm, trainable_layers=3)
    return detection.FasterRCNN(backbone, CLASSES, min_size=SIZE[0], max_size=SIZE[1])
