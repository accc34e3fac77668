"""Parameters of requests, checked before use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sleepfm_index.errors import QueryError

Kind = Literal["text", "integer", "number", "flag", "integers", "texts"]
MAX_VALUES: Final = 100_000
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
        Name of the parameter.
    text : str
        Description, one sentence, with the unit.
    kind : {"text", "integer", "number", "flag", "integers", "texts"}
        Type of the value; ``integers`` and ``texts`` are separated by commas.
    default : object
        Value if the parameter is omitted.
    required : bool
        Whether the parameter must be given.
    choices : sequence of str
        Allowed values; empty for any.
    """

    name: str
    text: str
    kind: Kind = "text"
    default: Any = None
    required: bool = False
    choices: Sequence[str] = ()

    def schema(self) -> dict[str, Any]:
        """Describe the values as JSON Schema."""
        schema = dict(_TYPES[self.kind])
        if self.choices:
            schema["enum"] = list(self.choices)
        if self.default is not None:
            schema["default"] = self.default
        return schema

    def read(self, text: str) -> Any:
        """Read a value.

        Parameters
        ----------
        text : str
            The value as text.

        Raises
        ------
        QueryError
            If the text is not a valid value.
        """
        try:
            value = self._read(text)
        except (ValueError, KeyError):
            raise QueryError(
                f"{self.name} must be {_describe_kind(self.kind)}, got {text[:80]!r}"
            ) from None
        if self.choices and value not in self.choices:
            raise QueryError(
                f"{self.name} must be one of {', '.join(self.choices)}, got {text[:80]!r}"
            )
        return value

    def _read(self, text: str) -> Any:
        match self.kind:
            case "integer":
                return int(text)
            case "number":
                value = float(text)
                if not math.isfinite(value):
                    raise ValueError
                return value
            case "flag":
                return _FLAGS[text.lower()]
            case "integers" | "texts":
                parts = [part.strip() for part in text.split(",") if part.strip()]
                if len(parts) > MAX_VALUES:
                    raise QueryError(f"{self.name} lists more than {MAX_VALUES:,} values")
                return [int(part) for part in parts] if self.kind == "integers" else parts
            case _:
                return text


def read_all(known: Sequence[Parameter], texts: Mapping[str, str]) -> dict[str, Any]:
    """Read the parameters of a request; omitted ones have their defaults.

    Parameters
    ----------
    known : sequence of Parameter
        Parameters of the request.
    texts : mapping of str to str
        Values as text, by name.

    Raises
    ------
    QueryError
        If a parameter is unknown, missing or invalid.
    """
    names = [p.name for p in known]
    for name in texts:
        if name not in names:
            raise QueryError(
                f"unknown parameter {name[:80]!r}; choose from {', '.join(names) or 'none'}"
            )
    values: dict[str, Any] = {}
    for parameter in known:
        if parameter.name in texts:
            values[parameter.name] = parameter.read(texts[parameter.name])
        elif parameter.required:
            raise QueryError(f"{parameter.name} is missing: {parameter.text}")
        else:
            values[parameter.name] = parameter.default
    return values


def _describe_kind(kind: Kind) -> str:
    return {
        "integer": "a whole number",
        "number": "a number",
        "flag": "true or false",
        "integers": "integers separated by commas",
    }.get(kind, "text")
