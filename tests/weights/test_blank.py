import pytest
import torch
from torch import nn

from course_lib.weights.blank import without_initialisation


@pytest.mark.parametrize("memory", [True, False])
def test_nothing_is_drawn_and_buffers_are_as_ever(memory):
    before = torch.get_rng_state()
    with without_initialisation(memory=memory):
        net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Linear(3, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert {p.is_meta for p in net.parameters()} == {not memory}
    assert net[1].running_var.tolist() == [1, 1, 1]
    assert nn.Linear(3, 2).weight.abs().max() > 0  # outside it all is as ever


def test_a_model_without_memory_takes_over_tensors():
    with without_initialisation(memory=False):
        layer = nn.Linear(3, 2)
    weight = torch.ones(2, 3)
    layer.load_state_dict({"weight": weight, "bias": torch.zeros(2)}, assign=True)
    assert layer.weight.data_ptr() == weight.data_ptr()
    assert layer(torch.ones(1, 3)).tolist() == [[3, 3]]
