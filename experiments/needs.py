"""Ends a script with a sentence where something that it needs is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable

from sleepfm.errors import SleepFMError


def run(main: Callable[[], None]) -> None:
    """Run a script, without a traceback where a file or a package is missing.

    Parameters
    ----------
    main : callable
        The script.

    Raises
    ------
    SystemExit
        With the reason, if a file does not exist, or the package refuses what it is given.
    """
    try:
        main()
    except FileNotFoundError as error:
        missing = f"there is no {error.filename}" if error.filename else str(error)
        sys.exit(f"{missing}; --help and the first lines of the script say what it needs")
    except SleepFMError as error:
        sys.exit(str(error))
