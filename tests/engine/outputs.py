"""What detectors may say of a data set, faultless or not."""

import torch
from torch import nn

from course_lib.datasets.coco import CocoDetection


def plain(target: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (N, 4) and labels (N,) of a target, without crowds."""
    keep = ~target["iscrowd"]
    return target["boxes"].as_subclass(torch.Tensor)[keep].clone(), target["labels"][keep].clone()


def perfect(dataset: CocoDetection) -> list[dict[str, torch.Tensor]]:
    """The truth, with scores of 0.9."""
    targets = [plain(dataset[i][1]) for i in range(len(dataset))]
    return [{"boxes": boxes, "labels": labels, "scores": torch.full((len(boxes),), 0.9)} for boxes, labels in targets]


def invent(output: dict[str, torch.Tensor], score: float) -> None:
    """Add a square where there is none."""
    for key, value in (("boxes", [[1.0, 1, 5, 5]]), ("labels", [0]), ("scores", [score])):
        output[key] = torch.cat((output[key], torch.tensor(value)))


class Oracle(nn.Module):
    """Answers with the truth of a data set, image after image, perhaps changed."""

    def __init__(self, dataset, change=lambda answer: None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.dataset, self.change, self.number = dataset.with_masks(), change, 0

    def forward(self, images):
        return [self.answer() for _ in images]

    def answer(self):
        image_id, (_, target) = self.dataset.image_ids[self.number], self.dataset[self.number]
        self.number += 1
        keep = ~target["iscrowd"]
        answer = {key: target[key].as_subclass(torch.Tensor)[keep] for key in ("boxes", "labels", "masks")}
        answer["scores"] = torch.full((int(keep.sum()),), 0.9)
        answer["semantic"] = target["semantic"].as_subclass(torch.Tensor)
        truth = self.dataset.panoptic
        answer["panoptic"] = torch.from_numpy(truth.ids(image_id))
        answer["segments"] = [s for s in truth.labelled(image_id) if not s["iscrowd"]]
        for segment in truth.labelled(image_id):
            if segment["iscrowd"]:
                answer["panoptic"][answer["panoptic"] == segment["id"]] = 0
        self.change(answer)
        return answer
