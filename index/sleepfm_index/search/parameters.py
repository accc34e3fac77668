"""Search parameters of an index, whose names depend on the kind of index."""

from __future__ import annotations

from collections.abc import Mapping

from sleepfm_index.errors import FormatError

Parameters = Mapping[str, int]
"""Search parameters of an index, by name."""


def parameter(parameters: Parameters, name: str, largest: int) -> int:
    """Return one parameter, clipped to 1 to ``largest``.

    Parameters
    ----------
    parameters : mapping of str to int
        Parameters of the search, by name.
    name : str
        Name of the parameter.
    largest : int
        Largest value allowed.

    Raises
    ------
    FormatError
        If the parameter is missing, so that the settings are those of another kind of index.
    """
    if name not in parameters:
        raise FormatError(
            f"the manifest states no {name} for an index; run `sleepfm-index reindex --rebuild`"
        )
    return max(1, min(parameters[name], largest))
