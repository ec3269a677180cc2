import pytest
import torch
from torch import nn

from course_lib.weights.keys import LoadReport, invert, load_renamed, rename

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


def test_the_way_back():
    rules = [
        (r"old\.(\d)\.w\.(.*)", r"new.\1.\2"),
        (r"(a|b)\.res(\d+)", r"r\2.\1"),
        (r"same\.(\d)", r"new.\1.x"),
        ("left_out", None),
    ]
    back = invert(rules)
    names = ["new.3.bias", "r12.b", "new.4.x"]
    found = rename({name: torch.ones(1) for name in names}, back)
    assert list(found) == ["old.3.w.bias", "b.res12", "old.4.w.x"]  # the first rule's
    again = rename(found, rules)
    assert list(again) == names


def test_a_report_of_everything():
    report = load_renamed(Net(), state(constants__x=torch.ones(9)), RULES)
    assert report.complete
    assert report.used["old.0.weight"] == "0.weight"
    assert report.ignored == ("constants.x",)
    assert report.kept == ("average",)
    lines = str(report).splitlines()
    assert [line.split()[0] for line in lines] == ["7", "1", "1"]
    assert lines[1].endswith("left out by rule: constants.x")


def test_what_fits_is_loaded_where_asked():
    net = Net()
    given = state(old__0__bias=None, old__9__x=torch.ones(1), odd=torch.ones(1), old__0__weight=torch.ones(9))
    report = load_renamed(net, given, RULES, partial=True)
    assert not report.complete
    assert report.missing == ("0.bias",)
    assert report.unexpected == ("old.9.x",)
    assert report.unknown == ("odd",)
    assert report.shapes == ("0.weight: (9,) for (3, 2)",)
    assert (net[1].weight == 2).all()
    text = str(report)
    for part in ("no value in the file: 0.bias", "shape in the file: 0.weight", "no place in the model: odd, old.9.x"):
        assert part in text


def test_a_long_report_is_cut():
    report = LoadReport(missing=tuple(f"t{i}" for i in range(20)))
    assert str(report).endswith("t6, t7 and 12 more")


def test_tensors_are_taken_over_without_a_copy():
    net, given = Net(), state(old__0__weight=torch.ones(3, 2, dtype=torch.float64))
    load_renamed(net, given, RULES, assign=True)
    assert net[0].bias.data_ptr() == given["old.0.bias"].data_ptr()
    assert net[0].weight.dtype == torch.float32
    assert net[0].weight.requires_grad
