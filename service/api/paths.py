"""Where else /v1 is found: DeepInfra's clients look under /v1/openai, Hugging Face's under /models/{id}/v1."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PATH_MODEL = "sluice.path_model"
# A model's name may have slashes, and even end in /v1: the last one is the API's.
_OF_A_MODEL = re.compile(r"/models/(?P<model>.+)(?P<path>/v1(?:/.*)?)", re.DOTALL)
_DEEPINFRA = "/v1/openai"
# What a person would guess that OpenAI's /v1/webhook_endpoints is called.
_WEBHOOKS = "/v1/webhooks"


class OtherPaths:
    """Gives the app the path that it knows, so that ids, keys, counts and errors are those of /v1."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if match := _OF_A_MODEL.fullmatch(path):
            environ[PATH_MODEL] = match["model"].encode("latin-1").decode("utf-8", "replace")
            environ["PATH_INFO"] = match["path"]
        elif path == _DEEPINFRA or path.startswith(f"{_DEEPINFRA}/"):
            environ["PATH_INFO"] = "/v1" + path.removeprefix(_DEEPINFRA)
        path = environ.get("PATH_INFO", "")
        if path == _WEBHOOKS or path.startswith(f"{_WEBHOOKS}/"):
            environ["PATH_INFO"] = "/v1/webhook_endpoints" + path.removeprefix(_WEBHOOKS)
        return self._app(environ, start_response)


def current_path_model() -> str | None:
    """The model that the path names, where it names one."""
    return request.environ.get(PATH_MODEL)
