"""The parameters of a search: how far an index is searched, in the words of its kind."""

from __future__ import annotations

from collections.abc import Mapping

from sleepfm_index.errors import FormatError

Parameters = Mapping[str, int]
"""Search parameters of an index, by name."""


def parameter(parameters: Parameters, name: str, most: int) -> int:
    """Return one parameter between 1 and ``most``.

    Parameters
    ----------
    parameters : mapping of str to int
        Parameters of the search, by name.
    name : str
        Name of the parameter.
    most : int
        Largest value allowed.

    Raises
    ------
    FormatError
        If it is not there: then the manifest is of another kind of index.
    """
    if name not in parameters:
        raise FormatError(
            f"the manifest states no {name} for an index; run `sleepfm-index reindex --rebuild`"
        )
    return max(1, min(parameters[name], most))
