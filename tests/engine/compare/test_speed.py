import pytest
import torch
from torch import nn

from course_lib.detectors.presets import FAMILIES
from course_lib.engine.compare import parts
from course_lib.engine.compare.parts import ORDER, PARTS, clocked_parts
from course_lib.engine.compare.speed import gigaflops, latencies
from tests.detectors.models import small

IMAGES = [torch.rand(3, 64, 64), torch.rand(3, 48, 64)]


class Clock:
    """A clock that goes on only when it is told to."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Slow(nn.Module):
    """Takes its time, by a clock."""

    def __init__(self, clock: Clock, seconds: float):
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def forward(self, x):
        self.clock.now += self.seconds
        return x


class Stages(nn.Module):
    """A detector of nothing whose parts take known times; one of them has no name that is known."""

    def __init__(self, clock: Clock):
        super().__init__()
        self.preprocess, self.backbone, self.fpn = Slow(clock, 2.0), Slow(clock, 1.0), Slow(clock, 3.0)
        self.rpn, self.other = Slow(clock, 4.0), Slow(clock, 5.0)

    def forward(self, images):
        return self.other(self.rpn(self.fpn(self.backbone(self.preprocess(images)))))


def test_each_part_has_its_clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(parts, "time", clock)
    model = Stages(clock)
    with clocked_parts(model) as seconds:
        for _ in range(2):
            model(None)
    assert seconds == {"preprocess": 4, "backbone": 8, "proposals": 8, "head": 0}
    kept = dict(seconds)
    model(None)
    assert seconds == kept  # the clocks are gone


def test_latency_and_its_parts():
    models = {"a": small().train(), "b": small(channels=32).eval()}
    found = latencies(models, IMAGES, rounds=2)
    assert set(found) == {"a", "b"}
    for figures in found.values():
        assert 0 < figures["median"] <= figures["p95"]
        assert tuple(figures["parts"]) == ORDER
        assert figures["parts"]["proposals"] == 0
        assert all(figures["parts"][part] > 0 for part in ("preprocess", "backbone", "head", "postprocess"))
    assert models["a"].training
    assert not models["b"].training


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_names_its_parts(family):
    """Whatever takes long is in a part with a name: the hooks meet the backbone and the heads of every model."""
    torch.manual_seed(0)
    model = FAMILIES[family]["tiny"].build(3).eval()
    names = {name for name, child in model.named_children() if any(True for _ in child.parameters())}
    assert names <= set(PARTS)
    with clocked_parts(model) as seconds, torch.inference_mode():
        model([torch.rand(3, 128, 128)])
    assert all(seconds[part] > 0 for part in ("preprocess", "backbone", "head"))
    assert (seconds["proposals"] > 0) == hasattr(model, "rpn")


def test_gigaflops_by_hand():
    class OneConvolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3, padding=1)

        def forward(self, images):
            return [self.conv(image[None]) for image in images]

    model = OneConvolution().train()
    # a multiplication and an addition for each of 3·3·3 weights, 5 maps, H·W places; the mean over both images
    each = [2 * 27 * 5 * h * w for h, w in ((64, 64), (48, 64))]
    assert gigaflops(model, IMAGES) == pytest.approx(sum(each) / 2 / 1e9)
    assert model.training
