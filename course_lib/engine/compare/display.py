"""One progress bar over a whole comparison, in seconds of expected work."""

from tqdm.auto import tqdm

FORM = "{l_bar}{bar}| {n:.0f}/{total:.0f} s [{remaining} left{postfix}]"


class Display:
    """The bar. It knows how much work there is in all, so the time left is that of the whole.

    Args:
        total: seconds that everything is expected to take.
        done: of these, seconds of work that lies there finished.
        shown: False for silence.
    """

    def __init__(self, total: float, done: float, *, shown: bool = True):
        self.base = done
        self.bar = tqdm(total=max(total, 1e-9), initial=min(done, total), bar_format=FORM, disable=not shown)

    def stage(self, text: str) -> None:
        """Say what is being done."""
        self.bar.set_description(text)

    def within(self, seconds: float, **figures: str) -> None:
        """Move to so many seconds into the present piece of work, and show the figures."""
        self.bar.n = min(self.base + seconds, self.bar.total)
        self.bar.set_postfix(figures)

    def finish(self, seconds: float) -> None:
        """The present piece, expected to take so long, is done."""
        self.base += seconds
        self.within(0.0)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if not self.bar.disable:
            self.bar.write(text)

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()
