"""Everything around a lesson: the notebooks' form and execution, the checks of the exercises, the release."""
