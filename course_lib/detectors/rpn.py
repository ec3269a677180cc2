"""The region proposal network: a dense detector of one class, "an object", whose boxes are looked at again.

Ren, He, Girshick, Sun: Faster R-CNN, 2015, Sec. 3.1; over a pyramid, Lin et al.: Feature Pyramid Networks, 2017,
Sec. 4.1. It is RetinaNet with K = 1 and another answer to imbalance: sampling instead of the focal loss.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.detectors.anchor_pyramid import AnchorPyramid, AnchorSpec
from course_lib.detectors.targets import MatchSpec, assign
from course_lib.nn.heads import RPNHead
from course_lib.nn.preprocess import Size
from course_lib.ops.boxes import clip_boxes, remove_small
from course_lib.ops.coder import decode
from course_lib.ops.losses import box_loss
from course_lib.ops.nms import batched_nms
from course_lib.ops.sampling import sample_balanced


@dataclass(frozen=True, kw_only=True)
class ProposalSpec:
    """From anchors to proposals: the best of each level, NMS within it, the best of all.

    Attributes:
        before_nms, after_nms: kept of each level, and of all together; (in training, in evaluation).
        nms: IoU from which the worse of two boxes of a level is dropped.
        min_size: pixels; a proposal with a side under it is dropped. The smallest float means "not empty".
        rank_by: what NMS orders boxes by, "logit" (Detectron2) or "probability" (torchvision), where boxes may tie.
    """

    before_nms: tuple[int, int] = (2000, 1000)
    after_nms: tuple[int, int] = (1000, 1000)
    nms: float = 0.7
    min_size: float = torch.finfo(torch.float32).tiny
    rank_by: str = "logit"


@dataclass(frozen=True, kw_only=True)
class RPNLossSpec:
    """The loss over a sample of the anchors (Sec. 3.1.3): cross entropy, and `box` (see `box_loss`) for the positives.

    Attributes:
        samples: anchors drawn of each image.
        positive_fraction: of them at most.
        box, beta: kind of the box loss.
        normalizer: both sums are divided by "samples", as many as should be drawn (Detectron2), or "drawn", as many as
            were (torchvision).
    """

    samples: int = 256
    positive_fraction: float = 0.5
    box: str = "l1"
    beta: float = 1 / 9
    normalizer: str = "samples"


class RPN(nn.Module):
    """Maps of a pyramid to proposals.

    Args:
        channels: of the pyramid.
        depth, norm: of its head, see `RPNHead`.
        anchors, matching, proposals, loss: the specs. An anchor's label is 0, "an object", or background or ignored.
    """

    def __init__(
        self,
        channels: int,
        *,
        depth: int = 1,
        norm: str | None = None,
        anchors: AnchorSpec,
        matching: MatchSpec,
        proposals: ProposalSpec,
        loss: RPNLossSpec,
    ):
        super().__init__()
        num_anchors = len(anchors.sizes[0]) * len(anchors.ratios)
        self.head = RPNHead(channels, num_anchors=num_anchors, num_levels=len(anchors.sizes), depth=depth, norm=norm)
        self.anchors = AnchorPyramid(anchors)
        self.match_spec, self.proposal_spec, self.loss_spec = matching, proposals, loss

    def forward(
        self,
        features: list[Tensor],
        padded_size: Size,
        sizes: list[Size],
        boxes: list[Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals, and the losses where the objects are given.

        Args:
            features: maps (B, channels, H_l, W_l), fine to coarse; those beyond the anchors' levels are not used.
            padded_size: (height, width) of the batch.
            sizes: (height, width) of each image in it; proposals end there.
            boxes: of each image's objects (G_i, 4); None for proposals alone.
            generator: draws the sample.

        Returns:
            for each image its proposals (R_i, 4), best first, without a gradient; and {"rpn_objectness",
            "rpn_bbox_regression"}, or {}.
        """
        logits, deltas, anchors = self.dense(features, padded_size)
        proposals = [found for found, _ in self.propose(logits, deltas, anchors, sizes)]
        if boxes is None:
            return proposals, {}
        flat = torch.cat(logits, 1).squeeze(2), torch.cat(deltas, 1), torch.cat(anchors)  # (B, A), (B, A, 4), (A, 4)
        return proposals, self.losses(*flat, boxes, generator)

    def dense(self, features: list[Tensor], padded_size: Size) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Each level's logits (B, A_l, 1), deltas (B, A_l, 4) and anchors (A_l, 4)."""
        features = features[: len(self.anchors.spec.sizes)]
        grids = [tuple(x.shape[-2:]) for x in features]
        return *self.head(features), self.anchors(padded_size, grids, features[0].device)

    @torch.no_grad()
    def propose(
        self, logits: list[Tensor], deltas: list[Tensor], anchors: list[Tensor], sizes: list[Size]
    ) -> list[tuple[Tensor, Tensor]]:
        """Each image's proposals (R_i, 4) and their logits (R_i,), best first, from what `dense` gives."""
        spec, phase = self.proposal_spec, 0 if self.training else 1
        levels = [select_anchors(*level, spec.before_nms[phase]) for level in zip(logits, deltas, anchors)]
        boxes, scores = (torch.cat(parts, 1) for parts in zip(*levels))  # (B, N, 4), (B, N)
        level_of = torch.cat([torch.full((x.shape[1],), i, device=x.device) for i, (_, x) in enumerate(levels)])
        ranks = scores.sigmoid() if spec.rank_by == "probability" else scores
        found = []
        for image_boxes, image_scores, image_ranks, size in zip(boxes, scores, ranks, sizes):
            image_boxes = clip_boxes(image_boxes, size)
            kept = remove_small(image_boxes, spec.min_size).nonzero().squeeze(1)
            best = batched_nms(image_boxes[kept], image_ranks[kept], level_of[kept], spec.nms)
            kept = kept[best[: spec.after_nms[phase]]]
            found.append((image_boxes[kept], image_scores[kept]))
        return found

    def losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, boxes: list[Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Both losses for logits (B, A), deltas (B, A, 4), anchors (A, 4) and each image's objects (G_i, 4)."""
        spec = self.loss_spec
        one_class = [torch.zeros(len(b), dtype=torch.int64, device=b.device) for b in boxes]
        labels, matched_boxes = assign(anchors, boxes, one_class, self.match_spec)  # (B, A), (P, 4)
        positive, negative = torch.zeros_like(labels, dtype=torch.bool), torch.zeros_like(labels, dtype=torch.bool)
        for i, image_labels in enumerate(labels):
            drawn = sample_balanced(image_labels, spec.samples, spec.positive_fraction, generator)
            positive[i, drawn[0]], negative[i, drawn[1]] = True, True
        anchor_index = positive.nonzero()[:, 1]
        box_losses = box_loss(
            deltas[positive].float(),
            matched_boxes[positive[labels >= 0]],
            anchors[anchor_index],
            kind=spec.box,
            beta=spec.beta,
        )
        objectness = F.softplus(-logits[positive].float()).sum() + F.softplus(logits[negative].float()).sum()
        drawn = len(anchor_index) + int(negative.sum())
        normalizer = len(labels) * spec.samples if spec.normalizer == "samples" else max(drawn, 1)
        return {"rpn_objectness": objectness / normalizer, "rpn_bbox_regression": box_losses.sum() / normalizer}


def select_anchors(logits: Tensor, deltas: Tensor, anchors: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """The best anchors of one level, of each image alone; only they are decoded.

    Args:
        logits: (B, A, 1).
        deltas: (B, A, 4).
        anchors: (A, 4).
        topk: keep at most so many.

    Returns:
        boxes (B, N, 4) and logits (B, N), by falling logit.
    """
    scores, index = logits.squeeze(2).float().topk(min(topk, logits.shape[1]), dim=1)  # (B, N)
    chosen = deltas.gather(1, index.unsqueeze(2).expand(-1, -1, 4))  # (B, N, 4)
    return decode(chosen.float(), anchors[index]), scores
