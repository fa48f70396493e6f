"""What a request may carry beside its JSON body: queries, headers and forms."""

from typing import Any

from pydantic import BaseModel


class Described(BaseModel):
    """A model whose schema is made once: flask-openapi3 asks every request for it, to tell lists from single values."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The model's JSON schema. The plain one is shared and must not be changed."""
        if args or kwargs:
            return super().model_json_schema(*args, **kwargs)
        if cls not in _schemas:
            _schemas[cls] = super().model_json_schema()
        return _schemas[cls]


_schemas: dict[type[BaseModel], dict[str, Any]] = {}
