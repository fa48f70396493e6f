"""/openapi.json, drawn from the models that validate, and /docs, a page to try what it describes."""

from collections.abc import Mapping
from importlib.resources import files

from flask import Response, request
from flask_openapi3.models.path_item import PathItem
from flask_openapi3.openapi import OpenAPI
from markupsafe import escape

from service.errors import NotFound

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sluice API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root}/docs/swagger-ui.css">
</head>
<body data-root="{root}">
<main id="api">
<noscript>This page needs JavaScript; the document behind it is <a href="{root}/openapi.json">here</a>.</noscript>
</main>
<script src="{root}/docs/swagger-ui-bundle.js"></script>
<script src="{root}/docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: document.body.dataset.root + "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
"""
# Swagger UI sets styles on its elements, and its pictures are data inside its stylesheet.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ASSETS = {
    "swagger-ui.css": ("css/swagger-ui.css", "text/css"),
    "swagger-ui-bundle.js": ("js/swagger-ui-bundle.js", "text/javascript"),
}
ASSET_SECONDS = 24 * 3600
METHODS = frozenset({"get", "post", "put", "patch", "delete"})


def describe(app: OpenAPI) -> None:
    """Give the app its document and the page. Neither needs a key: they say nothing about anybody's work."""
    _sort_into_sections(app.paths)
    app.add_url_rule("/openapi.json", "openapi", lambda: app.api_doc)
    app.add_url_rule("/docs", "docs", _page)
    app.add_url_rule("/docs/<asset>", "docs_asset", _asset)


def _sort_into_sections(paths: Mapping[str, PathItem]) -> None:
    """Name the section of the page that each operation stands in: what comes after /v1, or else the server's own."""
    for path, item in paths.items():
        first, _, rest = path.removeprefix("/").partition("/")
        section = rest.partition("/")[0].replace("_", " ") if first == "v1" else "server"
        for method in item.model_fields_set & METHODS:
            getattr(item, method).tags = [section]


def _page() -> Response:
    page = PAGE.format(root=escape(request.script_root))
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = CONTENT_POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _asset(asset: str) -> Response:
    if asset == "start.js":
        return Response(START, content_type="text/javascript; charset=utf-8")
    if asset not in ASSETS:
        raise NotFound("There is nothing at this path.", code="unknown_url")
    name, kind = ASSETS[asset]
    folder = files("flask_openapi3_swagger") / "templates" / "swagger"
    response = Response((folder / name).read_bytes(), content_type=f"{kind}; charset=utf-8")
    response.cache_control.public = True
    response.cache_control.max_age = ASSET_SECONDS
    return response
