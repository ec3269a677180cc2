"""The protocol of the checks: what passes, how a wrong answer is reported, which errors stay the learner's own."""

import pytest
import torch
from torch import Tensor

from course_lib.lessons.checks import CheckFailed, Exercise


def double(x: Tensor) -> Tensor:
    return 2 * x


MISTAKES = {"you squared it": lambda x: x**2, "you added them up": lambda x: 2 * x.sum()}
X = torch.tensor([1.0, 3.0])


def exercise(function, reference=double) -> Exercise:
    return Exercise("07-2", function, reference=reference, mistakes=MISTAKES)


def failure(function, check: str = "value", *arguments, reference=double) -> str:
    with pytest.raises(CheckFailed) as caught:
        getattr(exercise(function, reference), check)("two numbers", *(arguments or (X,)))
    return str(caught.value)


def test_what_passes_is_counted_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    check = exercise(double)
    check.shape("a", X)
    check.dtype("a", X)
    check.value("a", X)
    check.value("by hand", X, expected=torch.tensor([2.0, 6.0]))
    check.gradient("slope", X.double())
    assert check.passed == 5
    check.done()
    assert capsys.readouterr().out == "ok 07-2: 5 checks\n"


def test_a_wrong_answer_shows_call_found_expected_and_the_mistake_that_gives_it() -> None:
    assert failure(lambda x: x * x) == (
        "07-2, two numbers\n  called with  [1.0, 3.0]\n  found        [1.0, 9.0]\n  expected     [2.0, 6.0]\n"
        "  Hint: you squared it."
    )
    assert "Hint: you added them up." in failure(lambda x: 2 * x.sum(), "shape")


def test_an_unknown_mistake_gets_general_advice() -> None:
    assert "pencil and paper" in failure(lambda x: 5 * x)
    check = exercise(lambda x: 5 * x)
    with pytest.raises(CheckFailed, match="Hint: count again"):
        check.value("two numbers", X, hint="count again")


def test_of_large_tensors_the_first_difference_is_shown() -> None:
    x = torch.ones(4, 6)
    message = failure(lambda x: 2 * x + torch.eye(4, 6).flip(1), "value", x)
    assert "called with  a float32 tensor of shape (4, 6)" in message
    assert "found        3 at [0][5]\n  expected     2 there" in message


def test_what_is_worked_by_hand_is_shown_whole() -> None:
    """Five boxes: whoever shall take pencil and paper must see the numbers."""
    assert "called with  [[1.0, 1.0, 1.0, 1.0], [1.0," in failure(lambda x: 5 * x, "value", torch.ones(5, 4))


@pytest.mark.parametrize("count", [2, 30])
@pytest.mark.parametrize("check", ["value", "gradient"])
def test_an_answer_that_is_right_but_for_a_trace_is_told_so(check: str, count: int) -> None:
    x = torch.ones(count, dtype=torch.float64)
    message = failure(lambda x: 2 * x * (1 + 1e-8), check, x)
    assert "Hint: right but for a trace" in message
    if count == 30:
        assert "found        2.00000002 at [0]\n  expected     2 there" in message


def test_texts_that_look_alike_get_more_digits_or_the_shapes() -> None:
    message = failure(lambda x: 2 * x + 1e-6, "value", X.double())
    assert "found        [2.000001, 6.000001]\n  expected     [2.0, 6.0]" in message
    message = failure(lambda x: x.reshape(-1), "value", X.reshape(2, 1)[:0])
    assert "found        shape (0,)\n  expected     shape (0, 1)" in message


def test_a_list_among_the_arguments_keeps_its_brackets() -> None:
    message = failure(lambda sizes: torch.zeros(2), "value", [8, 16.0], reference=lambda sizes: torch.ones(2))
    assert "called with  [8, 16]\n" in message
    assert "called with  []\n" in failure(lambda sizes: 0, "value", [], reference=lambda sizes: 1)


def test_of_several_results_the_first_that_differs_is_named() -> None:
    x = torch.ones(4, 6)
    message = failure(lambda x: (x, 2 * x, x), "value", x, reference=lambda x: (x, x, 0 * x))
    assert "found        2 at [0][0] of result 2 of 3\n  expected     1 there" in message


def test_tuples_of_tensors_are_written_like_tensors() -> None:
    check = exercise(lambda pairs: 2 * pairs[0][0], reference=lambda pairs: 3 * pairs[0][0])
    with pytest.raises(CheckFailed, match=r"called with  \[\(\[1.0, 3.0\], \[1.0, 3.0\]\)\]"):
        check.value("a pair", [(X, X)])


def test_nan_is_a_wrong_answer() -> None:
    assert "found        [nan, nan]" in failure(lambda x: x / 0 * 0)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: None, "returned nothing"),
        (lambda x: "six", "returned a str, not numbers"),
        (lambda x: {"a": 1}, "returned a dict, not numbers"),
        (lambda x: x.mul_(2), "changed its input in place"),
    ],
)
def test_what_is_no_answer_is_said(function, words: str) -> None:
    assert words in failure(function)


def test_another_type_of_number_is_found() -> None:
    message = failure(lambda x: 2 * x.float(), "dtype", X.double())
    assert "found        torch.float32\n  expected     torch.float64" in message
    assert "keep the type" in message


def test_another_number_of_results_is_a_wrong_shape() -> None:
    message = failure(lambda x: (x, x), "shape")
    assert "found        2 results of shapes (2,), (2,)\n  expected     shape (2,)" in message


def test_shape_and_type_take_a_hint_of_their_own() -> None:
    with pytest.raises(CheckFailed, match="Hint: one number each"):
        exercise(lambda x: (x, x)).shape("two numbers", X, hint="one number each")
    with pytest.raises(CheckFailed, match="Hint: indices are whole"):
        exercise(lambda x: 2 * x.float()).dtype("two numbers", X.double(), hint="indices are whole")
    with pytest.raises(ZeroDivisionError) as caught:
        exercise(lambda x: 1 / 0).shape("two numbers", X, hint="one number each")
    assert "Hint: one number each." in caught.value.__notes__[0]


def test_a_gradient_that_is_cut_off_or_wrong_is_found() -> None:
    x = X.double()
    assert "no gradient reaches the input" in failure(lambda x: 2 * x.detach(), "gradient", x)
    assert "you squared it" in failure(lambda x: x**2, "gradient", x)
    partly = failure(lambda x: x + x.detach(), "gradient", x)
    assert "found        [1.0, 1.0]\n  expected     [2.0, 2.0]" in partly
    assert "a part of the formula is detached" in partly


def test_an_unsolved_exercise_says_so() -> None:
    def stub(x: Tensor) -> Tensor:
        raise NotImplementedError

    assert failure(stub) == "07-2 is not solved yet: write the body in the cell above"


def test_what_torch_does_not_implement_is_the_learners_own_error() -> None:
    with pytest.raises(RuntimeError, match="bool") as caught:
        exercise(lambda x: (x > 1) - (x > 2)).value("two numbers", X)
    assert "07-2, two numbers" in caught.value.__notes__[0]


def test_the_learners_own_error_comes_through_with_the_call() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        exercise(lambda x: 1 / 0).value("two numbers", X, hint="count again")
    note = "07-2, two numbers: your function was called with [1.0, 3.0]\n  Hint: count again."
    assert caught.value.__notes__ == [note]


def test_python_numbers_are_answers() -> None:
    exercise(lambda x: 0.5, reference=lambda x: torch.tensor(0.5)).value("a half", X)
    exercise(lambda x: [1, 0.5], reference=lambda x: (1.0, torch.tensor(0.5))).value("two", X)


def test_the_notebook_shows_the_message_without_a_traceback() -> None:
    assert CheckFailed("a\nb")._render_traceback_() == ["a\nb"]


# Text and dicts


def upper(name: str) -> str:
    return name.upper()


def plain(function, reference, *arguments) -> None:
    mistakes = {"you mirrored it": lambda x: x[::-1], "you kept one": lambda x: dict(list(x.items())[:1])}
    Exercise("07-3", function, reference=reference, mistakes=mistakes).plain("a name", *arguments, hint="look again")


def test_text_and_dicts_are_compared_as_they_are() -> None:
    plain(upper, upper, "ab")
    plain(lambda x: {**x, "b": 2}, lambda x: x | {"b": 2}, {"a": 1})
    with pytest.raises(CheckFailed) as caught:
        plain(lambda x: x[::-1], upper, "ab")
    assert str(caught.value) == (
        "07-3, a name\n  called with  ab\n  found        ba\n  expected     AB\n  Hint: you mirrored it."
    )
    with pytest.raises(CheckFailed, match="Hint: you kept one"):
        plain(lambda x: {"a": 1}, dict, {"a": 1, "b": [2]})


@pytest.mark.parametrize("answer", ["x", 3, X, None])
def test_of_another_kind_than_text_is_wrong(answer) -> None:
    with pytest.raises(CheckFailed, match=r"look again|returned nothing"):
        plain(lambda x: answer, upper, "ab")


def test_a_dict_that_was_changed_is_found_however_deep() -> None:
    def change(x: dict) -> dict:
        x["a"]["b"] = 2
        return {}

    with pytest.raises(CheckFailed, match="changed its input in place"):
        plain(change, dict, {"a": {"b": 1}})
