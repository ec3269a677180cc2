from itertools import pairwise

import torch

from course_lib.datasets.coco import open_split
from course_lib.datasets.transforms import train_transform
from course_lib.engine.batches import BatchStream, mix
from tests.engine.tiny_coco import write_tiny_coco


def stream(dataset, *, batch_size=3, seed=0):
    return BatchStream(dataset, train_transform(64), batch_size, seed)


def same(a, b):
    (images_a, targets_a), (images_b, targets_b) = a, b
    return torch.equal(images_a, images_b) and all(
        torch.equal(x["boxes"], y["boxes"]) and torch.equal(x["labels"], y["labels"]) and x["image_id"] == y["image_id"]
        for x, y in zip(targets_a, targets_b, strict=True)
    )


def test_a_batch(train_data):
    images, targets = stream(train_data)[0]
    assert images.shape == (3, 3, 64, 64)
    assert images.dtype == torch.uint8
    assert type(images) is torch.Tensor
    assert len(targets) == 3
    for target in targets:
        assert set(target) == {"boxes", "labels", "image_id"}
        assert type(target["boxes"]) is torch.Tensor
        assert target["boxes"].shape == (len(target["labels"]), 4)
        assert target["labels"].dtype == torch.int64


def test_a_batch_depends_on_seed_and_number_alone(train_data):
    forward = stream(train_data)
    first = [forward[t] for t in range(8)]
    other = stream(train_data)
    torch.rand(5)  # the global generator plays no part
    for t in (7, 2, 2, 0, 5):
        assert same(other[t], first[t])
    assert not same(stream(train_data, seed=1)[0], first[0])
    assert not same(first[0], first[1])


def test_every_epoch_is_a_permutation_of_its_own(train_data):
    epochs = [[], [], []]
    batches = stream(train_data, batch_size=4)  # 8 images: two batches an epoch
    for t in range(6):
        epochs[t // 2] += [target["image_id"] for target in batches[t][1]]
    assert all(sorted(epoch) == train_data.image_ids for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_may_span_epochs_and_be_larger_than_the_data(train_data):
    ids = [target["image_id"] for target in stream(train_data, batch_size=20)[0][1]]
    assert len(ids) == 20
    assert sorted(ids[:8]) == sorted(ids[8:16]) == train_data.image_ids


def test_crowds_are_left_out(train_data):
    crowded = train_data.image_ids[0]
    assert train_data[0][1]["iscrowd"].tolist() == [False, False, True]
    plain = BatchStream(train_data, lambda image, target, generator: (image, target), 8, 0)[0][1]
    (target,) = (t for t in plain if t["image_id"] == crowded)
    assert target["boxes"].tolist() == train_data[0][1]["boxes"][:2].tolist()
    (empty,) = (t for t in plain if t["image_id"] == train_data.image_ids[-1])
    assert empty["boxes"].shape == (0, 4)


def test_masks_come_along(tmp_path):
    dataset = open_split(write_tiny_coco(tmp_path / "data", masks=True), "train", masks=True)
    for target in stream(dataset, batch_size=8)[0][1]:
        assert type(target["masks"]) is torch.Tensor
        assert target["masks"].shape == (len(target["boxes"]), 64, 64)
        assert target["masks"].dtype == torch.bool
        assert target["masks"].flatten(1).any(1).all()


def test_the_same_image_is_augmented_anew_in_each_epoch(train_data):
    batches = stream(train_data, batch_size=8)
    boxes = [{t["image_id"]: t["boxes"] for t in batches[epoch][1]} for epoch in (0, 1)]
    assert not torch.equal(boxes[0][101], boxes[1][101])


def test_neighbouring_numbers_give_unrelated_seeds():
    seeds = [mix(0, 2, n) for n in range(1000)]
    assert len(set(seeds)) == 1000
    assert all(0 <= s < 2**63 for s in seeds)
    assert mix(0, 1, 2) != mix(0, 2, 1) != mix(1, 0, 2)
    ones = sum(bin(a ^ b).count("1") for a, b in pairwise(seeds)) / 999
    assert 29 < ones < 34  # half of 63 bits differ
