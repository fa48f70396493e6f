"""The document at /openapi.json is drawn from the models that validate."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from flask.testing import FlaskClient

# These take nothing but their path.
VERBS = {"cancel", "pause", "resume", "rotate_secret", "test"}
# What shows the document is not in it.
PAGES = {"/openapi.json", "/docs", "/docs/<asset>"}


@pytest.fixture
def document(http: FlaskClient) -> dict:
    return http.get("/openapi.json").json


def operations(document: dict):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def test_every_route_of_the_app_is_in_the_document(http: FlaskClient, document: dict):
    rules = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in http.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule not in PAGES
    }
    assert rules == {(method, path) for method, path, _ in operations(document)}


def test_every_operation_declares_its_answer_its_refusals_and_its_body(document: dict):
    for method, path, operation in operations(document):
        success = {status: answer for status, answer in operation["responses"].items() if status < "300"}
        assert success, (method, path)
        assert all(answer["content"] for answer in success.values()), (method, path)
        refusal = operation["responses"]["400"]["content"]["application/json"]["schema"]
        assert refusal == {"$ref": "#/components/schemas/ErrorReply"}, (method, path)
        if method == "post" and path.rpartition("/")[2] not in VERBS:
            assert operation["requestBody"]["content"], (method, path)
        assert operation["summary"], (method, path)


def test_the_document_is_openapi_3_1_and_says_how_to_send_a_key(document: dict):
    assert document["openapi"] == "3.1.0"
    (scheme,) = (name for need in document["security"] for name in need)
    assert document["components"]["securitySchemes"][scheme] == {"type": "http", "scheme": "bearer"}


def test_the_page_shows_the_document_with_nothing_from_elsewhere(http: FlaskClient):
    page = http.get("/docs")

    assert page.content_type.startswith("text/html")
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert {address.partition(":")[0] for address in addresses if not address.startswith("/")} == {"data"}
    for address in addresses:
        if address.startswith("/"):
            assert http.get(address).status_code == 200, address
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert http.get("/docs/other.js").status_code == 404


def test_the_page_works_behind_a_prefix(http: FlaskClient):
    page = http.get("/docs", environ_overrides={"SCRIPT_NAME": "/sluice"})

    assert 'src="/sluice/docs/start.js"' in page.text


def test_every_reference_of_the_document_leads_somewhere(document: dict):
    def references(node):
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for child in node.values():
                yield from references(child)
        elif isinstance(node, list):
            for child in node:
                yield from references(child)

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


def test_a_job_is_documented_as_the_chat_request_that_it_is(document: dict):
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    assert body["application/json"]["schema"] == {"$ref": "#/components/schemas/ChatRequest"}
    assert "application/jsonl" in body


def test_the_document_shows_that_content_may_be_words_or_parts(document: dict):
    content = document["components"]["schemas"]["Message"]["properties"]["content"]
    assert {"string", "array"} <= {choice.get("type") for choice in content["anyOf"]}


def test_the_web_process_imports_no_torch_and_stays_small(tmp_path: Path):
    """150 MB is the promise; a fresh import should leave room for connections and requests."""
    script = (
        "import sys\n"
        "from service.api.app import create_app\n"
        "import service.wsgi\n"
        "service.wsgi.app.test_client().get('/openapi.json')\n"
        "heavy = {'torch', 'transformers', 'numpy', 'av', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0].split()[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"SLUICE_DATA_DIR": str(tmp_path)},
    )
    assert int(done.stdout) < 110_000
