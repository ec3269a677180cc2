import pytest
import torch

from course_lib.engine.probe import centre_vectors, linear_probe


def test_centre_vectors_by_hand():
    feature_map = torch.arange(24.0).reshape(1, 2, 3, 4)  # row r, column c: 4·r + c, and 12 more in channel 1
    boxes = torch.tensor([[0.0, 0, 4, 4], [9, 4, 13, 10], [14, 8, 20, 20]])  # centres (2, 2), (11, 7), (17, 14)
    assert centre_vectors(feature_map, boxes, stride=4).tolist() == [[0, 12], [6, 18], [11, 23]]  # the last at the rim
    assert centre_vectors(feature_map, boxes[:0], stride=4).shape == (0, 2)


def test_what_is_linear_is_read_and_what_is_noise_is_not():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (400,), generator=generator)
    noise = torch.randn(400, 6, generator=generator)
    known = noise.clone()
    known[torch.arange(400), labels] += 4
    assert linear_probe(known, labels, 4).double().mean() > 0.9
    assert linear_probe(noise, labels, 4).double().mean() < 0.4
    assert linear_probe(known, labels, 4).shape == (200,)


def test_scale_offset_and_dead_channels_do_not_matter():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (101,), generator=generator)
    vectors = torch.randn(101, 5, generator=generator) + torch.nn.functional.one_hot(labels, 5)
    changed = torch.cat((1000 * vectors + 7, torch.zeros(101, 1)), 1)
    assert torch.equal(linear_probe(vectors, labels, 3), linear_probe(changed, labels, 3))


def test_too_few_objects():
    with pytest.raises(ValueError, match="found 3 objects, expected at least 4"):
        linear_probe(torch.rand(3, 2), torch.zeros(3, dtype=torch.int64), 2)
