import copy

import numpy as np
import torch
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader

from detectron2.structures import BoxMode, Instances


class DatasetMapper:
    """Reads and augments the picture; of its objects it keeps what the toy learns from, and checks the rest."""

    def __init__(
        self,
        is_train: bool,
        *,
        augmentations,
        image_format: str,
        use_instance_mask: bool = False,
        use_keypoint: bool = False,
        instance_mask_format: str = "polygon",
        keypoint_hflip_indices=None,
        precomputed_proposal_topk=None,
        recompute_boxes: bool = False,
    ):
        assert is_train
        assert image_format == "BGR"
        self.augmentations, self.masks = augmentations, use_instance_mask

    def __call__(self, dataset_dict: dict) -> dict:
        found = copy.deepcopy(dataset_dict)
        with Image.open(found["file_name"]) as picture:
            image = np.asarray(picture.convert("RGB"))[:, :, ::-1]
        assert image.shape[:2] == (found["height"], found["width"])
        for augmentation in self.augmentations:
            image = augmentation.get_transform(image).apply_image(image)
        objects = [o for o in found.pop("annotations") if not o["iscrowd"]]
        for known in objects:
            assert known["bbox_mode"].value == BoxMode.XYWH_ABS  # a plain number has no value: an error there, too
            assert len(known["bbox"]) == 4
            assert not self.masks or isinstance(known["segmentation"]["counts"], str)
        found["image"] = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        classes = torch.tensor([known["category_id"] for known in objects]).long()
        found["instances"] = Instances(image.shape[:2], gt_classes=classes)
        return found


class _Mapped(torch.utils.data.Dataset):
    def __init__(self, dataset, mapper):
        self.dataset, self.mapper = dataset, mapper

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        return self.mapper(self.dataset[index])


def build_detection_train_loader(
    dataset, *, mapper, sampler=None, total_batch_size, aspect_ratio_grouping=True, num_workers=0, collate_fn=None
):
    return DataLoader(
        _Mapped(dataset, mapper),
        batch_sampler=BatchSampler(sampler, total_batch_size, drop_last=True),
        num_workers=num_workers,
        collate_fn=collate_fn or list,
    )
