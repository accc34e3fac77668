"""Parameters of requests, checked before use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sleepfm_index.errors import QueryError

Kind = Literal["text", "integer", "number", "flag", "integers", "texts"]
MOST: Final = 100_000
"""Maximum number of values in one parameter."""
_TYPES: Final[dict[str, dict[str, Any]]] = {
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "flag": {"type": "boolean"},
    "integers": {"type": "string", "pattern": r"^-?\d+(,-?\d+)*$"},
    "texts": {"type": "string"},
}
_FLAGS: Final = {"": True, "1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a request.

    Parameters
    ----------
    name : str
    text : str
        What it means, one sentence, with its unit.
    kind : str
        ``integers`` and ``texts`` are separated by commas.
    default : object
        What it is when it is not said.
    required : bool
    choices : sequence of str
        The only values, if there are few.
    """

    name: str
    text: str
    kind: Kind = "text"
    default: Any = None
    required: bool = False
    choices: Sequence[str] = ()

    def schema(self) -> dict[str, Any]:
        """Describe the values as JSON Schema."""
        found = dict(_TYPES[self.kind])
        if self.choices:
            found["enum"] = list(self.choices)
        if self.default is not None:
            found["default"] = self.default
        return found

    def read(self, said: str) -> Any:
        """Read a value.

        Parameters
        ----------
        said : str
            The value as text.

        Raises
        ------
        QueryError
            If it is none of the kind.
        """
        try:
            value = self._read(said)
        except (ValueError, KeyError):
            raise QueryError(f"{self.name} must be {_said(self.kind)}, got {said[:80]!r}") from None
        if self.choices and value not in self.choices:
            raise QueryError(
                f"{self.name} must be one of {', '.join(self.choices)}, got {said[:80]!r}"
            )
        return value

    def _read(self, said: str) -> Any:
        match self.kind:
            case "integer":
                return int(said)
            case "number":
                value = float(said)
                if not math.isfinite(value):
                    raise ValueError
                return value
            case "flag":
                return _FLAGS[said.lower()]
            case "integers" | "texts":
                parts = [part.strip() for part in said.split(",") if part.strip()]
                if len(parts) > MOST:
                    raise QueryError(f"{self.name} lists more than {MOST:,} values")
                return [int(part) for part in parts] if self.kind == "integers" else parts
            case _:
                return said


def read_all(known: Sequence[Parameter], said: Mapping[str, str]) -> dict[str, Any]:
    """Read the parameters of a request; those that are not said have their defaults.

    Parameters
    ----------
    known : sequence of Parameter
        Parameters of the request.
    said : mapping of str to str
        Values as text, by name.

    Raises
    ------
    QueryError
        If one is not known, is missing, or is not of its kind.
    """
    names = [p.name for p in known]
    for name in said:
        if name not in names:
            raise QueryError(
                f"unknown parameter {name[:80]!r}; choose from {', '.join(names) or 'none'}"
            )
    values: dict[str, Any] = {}
    for parameter in known:
        if parameter.name in said:
            values[parameter.name] = parameter.read(said[parameter.name])
        elif parameter.required:
            raise QueryError(f"{parameter.name} is missing: {parameter.text}")
        else:
            values[parameter.name] = parameter.default
    return values


def _said(kind: Kind) -> str:
    return {
        "integer": "a whole number",
        "number": "a number",
        "flag": "true or false",
        "integers": "integers separated by commas",
    }.get(kind, "text")
