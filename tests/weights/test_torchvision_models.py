"""torchvision's published models by name: cache, hash, labels, other classes."""

import hashlib
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torchvision.models import get_model_weights

from course_lib.datasets.label_map import LabelMap
from course_lib.weights.blank import without_initialisation
from course_lib.weights.imported import finite
from course_lib.weights.labels import coco_labels, coco_stuff, torchvision_labels
from course_lib.weights.sources import open_weights, published
from course_lib.weights.torchvision import models
from course_lib.weights.torchvision.models import MODELS, cached, fetch, import_torchvision


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch's, and no net."""

    def no_net(*_, **__):
        raise AssertionError("the net was asked")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_net)
    return tmp_path / "hub" / "checkpoints"


def state_of(name: str) -> dict[str, torch.Tensor]:
    """Of a published model's names and shapes; all values are 0, of norms 1."""
    with without_initialisation():
        options = {"weights_backbone": None}
        model = getattr(torchvision.models.detection, name)(weights=None, **options)
    frozen = not name.endswith("_v2")  # the published first versions have frozen norms, which count no steps
    return {
        key: torch.ones_like(value) if key.endswith("running_var") else torch.zeros_like(value)
        for key, value in model.state_dict().items()
        if not (frozen and key.endswith("num_batches_tracked"))
    }


@pytest.mark.parametrize("name", MODELS)
def test_every_model_imports_by_name_from_the_cache(cache, monkeypatch, name):
    weights = get_model_weights(name).DEFAULT
    cache.mkdir(parents=True)
    torch.save(state_of(name), cached(weights))
    prefix = cached(weights).stem.rsplit("-", 1)[1]
    monkeypatch.setattr(models, "_sha256", lambda path: prefix + "0" * 56)
    found = import_torchvision(name)
    assert found.model.num_classes == (91 if name.startswith("retinanet") else 90)
    label_map = found.label_map
    person = label_map.names.index("person")
    assert label_map.category_ids[person] == 1
    assert label_map.category_ids[label_map.names.index("toothbrush")] == 90
    assert found.preset.name.endswith({"_v2": "v2", "fpn": "v1", "g16": "torchvision"}[name[-3:]])
    assert found.report.complete
    by_enum = import_torchvision(weights).model.state_dict()
    assert all(torch.equal(value, by_enum[key]) for key, value in found.model.state_dict().items())


def test_other_classes_start_with_the_prior(tmp_path):
    torch.save(state_of("retinanet_resnet50_fpn"), tmp_path / "r.pth")
    torch.manual_seed(0)
    found = open_weights(tmp_path / "r.pth", num_classes=3)
    assert found.report.fresh == ("class_head.predictor.weight", "class_head.predictor.bias")
    assert found.label_map.names == ("class 0", "class 1", "class 2")
    prior = found.model.class_head.predictor.bias.sigmoid()
    torch.testing.assert_close(prior, torch.full_like(prior, 0.01))
    assert (found.model.box_head.predictor.weight == 0).all()  # as in the file


# The cache


def published_file(content: bytes, prefix: str | None = None, folder=None) -> SimpleNamespace:
    """What a weights enum's member has, of a file on the disk."""
    prefix = prefix or hashlib.sha256(content).hexdigest()[:8]
    source = folder / f"m-{prefix}.pth"
    source.write_bytes(content)
    return SimpleNamespace(url=source.as_uri())


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """An empty cache, and a folder in place of the net, which torch's own downloader reads."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "net").mkdir()
    return tmp_path / "net"


def test_a_download_is_checked_and_kept(disk):
    weights = published_file(b"weights", folder=disk)
    path = fetch(weights)
    assert path.read_bytes() == b"weights"
    (disk / path.name).unlink()
    assert fetch(weights, download=False) == path  # from the cache


def test_a_wrong_hash_leaves_the_cache_clean(disk):
    weights = published_file(b"half of the wei", prefix="0123abcd", folder=disk)
    with pytest.raises(ValueError, match=r"half a download or another file, .*0123abcd.*nothing was kept"):
        fetch(weights)
    assert list(cached(weights).parent.iterdir()) == []


def test_a_damaged_file_leaves_the_cache(disk):
    weights = published_file(b"weights", folder=disk)
    fetch(weights).write_bytes(b"weig")
    with pytest.raises(ValueError, match=r"damaged, or half a download\. It was removed from the cache"):
        fetch(weights)
    assert list(cached(weights).parent.iterdir()) == []
    assert fetch(weights).read_bytes() == b"weights"


def test_no_net(disk):
    weights = published_file(b"weights", folder=disk)
    (disk / cached(weights).name).unlink()
    with pytest.raises(OSError, match=r"cannot fetch file:.* Fetch it elsewhere and put it at .*m-"):
        fetch(weights)
    assert list(cached(weights).parent.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="not in torch's cache; fetch file:"):
        fetch(weights, download=False)


# What is refused


def test_what_is_no_detector(tmp_path, cache):
    path = tmp_path / "m.pth"
    torch.save({"layer.weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"m\.pth: not the weights of a torchvision detector that is known: retinanet"):
        import_torchvision(path)
    torch.save({"layer": 3}, path)
    with pytest.raises(ValueError, match="expected a state dict"):
        import_torchvision(path)
    torch.save([1], path)
    with pytest.raises(ValueError, match="expected a state dict"):
        import_torchvision(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="half a download"):
        import_torchvision(path)
    with pytest.raises(FileNotFoundError, match=r"n\.pth: there is no such file"):
        import_torchvision(tmp_path / "n.pth")
    with pytest.raises(FileNotFoundError, match="not in torch's cache"):
        import_torchvision("ssd300_vgg16", download=False)


def test_damaged_weights_are_named(tmp_path):
    state = state_of("ssd300_vgg16")
    path = tmp_path / "s.pth"
    torch.save(state | {"backbone.scale_weight": torch.full((512,), torch.nan)}, path)
    with pytest.raises(ValueError, match=r"s\.pth: 1 tensors hold NaN .* is backbone\.norm\.weight"):
        import_torchvision(path)
    torch.save({k: v for k, v in state.items() if k != "backbone.scale_weight"}, path)
    with pytest.raises(ValueError, match=r"s\.pth: these weights have no value for 1 .*: backbone\.norm\.weight"):
        import_torchvision(path)
    torch.save(state, path)
    with pytest.raises(ValueError, match="90 classes, but labels for 1"):
        import_torchvision(path, label_map=LabelMap(("a",), (1,)))
    assert open_weights(path, label_map=LabelMap(*zip(*[(str(i), i) for i in range(90)]))).label_map.names[89] == "89"


def test_finite():
    assert finite(torch.tensor([3e38, 3e38]))  # though their sum is not
    assert finite(torch.tensor(7))
    assert not finite(torch.tensor([1.0, torch.nan]))


# Names and labels


def test_a_name_that_nobody_has(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model of that name; did you mean retinanet_resnet50_fpn_v2\?"):
        open_weights("retinanet_resnet50_fpn_v3")
    with pytest.raises(FileNotFoundError, match="`course weights list` says which"):
        open_weights(tmp_path / "xyzzy")


def test_the_course_s_own(tmp_path):
    found = open_weights("town_retinanet")
    assert len(found.label_map) == 8
    found.save(tmp_path / "weights.safetensors")
    for again in (open_weights(tmp_path), open_weights(tmp_path / "weights.safetensors")):
        assert again.preset == found.preset
        assert again.label_map == found.label_map
        assert again.source == "course file town_retinanet.safetensors"
    assert "town_retinanet" in published()


def test_coco_s_labels():
    found = coco_labels()
    assert len(found) == 80
    assert (found.names[0], found.category_ids[0]) == ("person", 1)
    assert (found.names[79], found.category_ids[79]) == ("toothbrush", 90)
    assert "N/A" not in found.names
    stuff = coco_stuff()
    assert (len(stuff), stuff.names[0], stuff.category_ids[0]) == (53, "banner", 92)
    assert (stuff.names[52], stuff.category_ids[52]) == ("rug-merged", 200)
    with pytest.raises(ValueError, match="3 names for 5 classes"):
        torchvision_labels(["a", "b", "c"], 5)
