import pytest

from course_lib.engine.recipe import PEAK_RATE, SCALES, Recipe


@pytest.mark.parametrize("budget", [{}, {"minutes": 1.0, "iterations": 5}])
def test_the_budget_is_one_of_two(budget):
    with pytest.raises(ValueError, match="give the budget as minutes or as iterations, one of the two"):
        Recipe(**budget)


def test_augmentation():
    assert Recipe(minutes=1).augmentation == "auto"
    with pytest.raises(ValueError, match="augmentation must be auto, flip or strong, not 'mosaic'"):
        Recipe(minutes=1, augmentation="mosaic")
    assert set(SCALES) == {"flip", "strong"}


def test_the_learning_rate_is_that_which_is_set():
    assert Recipe(minutes=1).learning_rate is None
    assert Recipe(minutes=1).peak_rate == PEAK_RATE
    assert Recipe(minutes=1, learning_rate=0.5).peak_rate == 0.5
