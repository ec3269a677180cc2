"""The tests that every exercise's check must pass, made from a table of right and wrong solutions."""

from collections.abc import Callable, Mapping

import pytest

from course_lib.lessons import checks

Right = Mapping[str, Callable]
Wrong = Mapping[str, tuple[Callable, str]]


def exercise_tests(exercises: Mapping[str, tuple[Callable, Right, Wrong]]) -> type:
    """A class of tests, to be bound to a name that begins with Test.

    exercises: by what a check says in the end, "02-1: 9" for exercise 02-1 and nine checks, the check; by name the
    right solutions; by name the wrong ones, each with words of the hint that it should get.
    """
    rights = [(says, name) for says, (_, right, _) in exercises.items() for name in right]
    wrongs = [(says, name) for says, (_, _, wrong) in exercises.items() for name in wrong]

    class Tests:
        @pytest.mark.parametrize(("says", "name"), rights)
        def test_a_right_solution_passes(self, says: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
            check, right, _ = exercises[says]
            check(right[name])
            assert capsys.readouterr().out == f"ok {says} checks\n"

        @pytest.mark.parametrize(("says", "name"), wrongs)
        def test_a_wrong_solution_gets_the_hint_that_fits(self, says: str, name: str) -> None:
            check, _, wrong = exercises[says]
            function, words = wrong[name]
            with pytest.raises(checks.CheckFailed) as caught:
                check(function)
            hint = str(caught.value).partition("Hint: ")[2]
            assert words in hint, str(caught.value)

        @pytest.mark.parametrize("says", exercises)
        def test_what_is_not_solved_is_told_so(self, says: str) -> None:
            def unsolved(*arguments: object) -> None:
                raise NotImplementedError

            check, _, _ = exercises[says]
            with pytest.raises(checks.CheckFailed, match=f"{says[:4]} is not solved yet"):
                check(unsolved)
            with pytest.raises(checks.CheckFailed, match="returned nothing"):
                check(lambda *arguments: None)

    return Tests
