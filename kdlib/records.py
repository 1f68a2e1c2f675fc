"""The base of every record that users fill in: frozen, no unknown fields, errors in one sentence."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

Whole = Annotated[int, Field(strict=True)]  # neither "3" nor True
Number = Annotated[float, Field(strict=True)]


class Record(BaseModel):
    """Frozen; unknown fields, wrong types and infinite numbers raise ValueError in one sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **fields: Any):
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ValueError(sentence(error, type(self))) from None


def sentence(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first problem of a validation error: the field, its value, and what is allowed."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    if first["type"] == "extra_forbidden":
        return f"{field} is not a field of {kind.__name__}; allowed are {', '.join(kind.model_fields)}"
    if first["type"] == "missing":
        return f"{field} is missing: {kind.__name__} needs it"
    return f"{field} = {first['input']!r} is not allowed: {first['msg'][0].lower()}{first['msg'][1:]}"


def check_values(what: str, fields: Mapping[str, tuple[Any, Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of some fields, with the defaults of those that are not given.

    fields: name -> (type, default), "..." for a value that must be given. Raises ValueError in one sentence, which
    begins with what the fields are, for an unknown name or a wrong type.
    """
    definitions: dict[str, Any] = dict(fields)
    model = create_model("Parameters", __config__=ConfigDict(extra="forbid", strict=True), **definitions)
    try:
        return model(**values).model_dump()
    except ValidationError as error:
        raise ValueError(f"{what} {sentence(error, model)}") from None
