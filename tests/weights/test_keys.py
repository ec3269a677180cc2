import pytest
import torch
from torch import nn

from course_lib.weights.keys import load_renamed, rename

RULES = [(r"old\.(\d)\.(.*)", r"\1.\2"), (r"constants\..*", None)]


class Net(nn.Sequential):
    """Two linear layers, a batch norm, and a counter of its own that no peer knows."""

    def __init__(self):
        super().__init__(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.register_buffer("average", torch.tensor(5.0))


def state(**changes):
    values = {f"old.{name}": torch.full_like(value, 2) for name, value in Net().state_dict().items() if "." in name}
    values |= {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in values.items() if value is not None}


def test_rename():
    found = rename({"old.0.weight": torch.ones(2), "constants.anchors": torch.ones(1)}, RULES)
    assert list(found) == ["0.weight"]


def test_the_first_rule_that_matches_the_whole_name_counts():
    rules = [("a", "short"), (r"a\.b", "first"), (r"a\..*", "second")]
    assert list(rename({"a.b": torch.ones(1), "a.bc": torch.ones(1), "a": torch.ones(1)}, rules)) == [
        "first",
        "second",
        "short",
    ]


def test_keys_without_a_rule_are_named():
    with pytest.raises(ValueError, match=r"2 keys that this model has no place for: head\.x, older\.0\.weight"):
        rename({"older.0.weight": torch.ones(1), "head.x": torch.ones(1)}, RULES)


def test_load():
    net = Net()
    load_renamed(net, state(constants__x=torch.ones(9)), RULES)
    values = net.state_dict()
    assert all((value == 2).all() for name, value in values.items() if name != "average")
    assert values["average"] == 5  # the peer has none: ours stays


def test_our_own_buffer_is_loaded_where_the_peer_has_it():
    net = Net()
    load_renamed(net, {**state(), "average": torch.tensor(7.0)}, [*RULES, ("average", "average")])
    assert net.average == 7


def test_step_counters_may_be_missing():
    net = Net()
    load_renamed(net, state(old__1__num_batches_tracked=None), RULES)
    assert net[1].num_batches_tracked == 0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"old__0__bias": None, "old__1__running_var": None}, r"no value for 2 of .*: 0\.bias, 1\.running_var"),
        ({"old__2__weight": torch.ones(1)}, r"no place for 1 of .*: 2\.weight"),
        ({"old__0__weight": torch.ones(3, 4)}, r"another shape for 1 of .*: 0\.weight: \(3, 4\) for \(3, 2\)"),
        ({"else": torch.ones(1)}, "1 keys that this model has no place for: else"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(changes, message):
    net = Net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_renamed(net, state(**changes), RULES)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
