import pytest

from course_lib.engine.recipe import SCALES, Recipe


@pytest.mark.parametrize("budget", [{}, {"minutes": 1.0, "iterations": 5}])
def test_the_budget_is_one_of_two(budget):
    with pytest.raises(ValueError, match="give the budget as minutes or as iterations, one of the two"):
        Recipe(**budget)


def test_augmentation():
    assert Recipe(minutes=1).augmentation == "auto"
    with pytest.raises(ValueError, match="augmentation must be auto, flip or strong, not 'mosaic'"):
        Recipe(minutes=1, augmentation="mosaic")
    assert set(SCALES) == {"flip", "strong"}
