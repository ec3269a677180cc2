"""How the modules that record something end when they are run as commands."""

import sys
from collections.abc import Callable


def run_command(action: Callable[[], str]) -> int:
    """Do it and print what it says; the exit status is 2 for a user's mistake, 130 after Ctrl-C, else 0.

    action: may raise ValueError or OSError for a mistake; after Ctrl-C, the same call goes on where it stopped.
    """
    try:
        said = action()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; nothing is lost. The same command goes on.", file=sys.stderr)
        return 130
    print(said)
    return 0
