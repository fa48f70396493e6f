"""/v1/tokenize and /v1/detokenize: jobs too, since no tokenizer is loaded here."""

from contextlib import closing

import orjson
from flask import Response
from flask_openapi3.blueprint import APIBlueprint

from service.actions.forget_count import forget_count
from service.actions.start_chat import start_request
from service.api.context import current_caller, current_parts, current_request
from service.api.errors import REFUSALS
from service.api.headers import ChatHeaders, name_ignored
from service.api.listening import listen, reply_in
from service.api.paths import current_path_model
from service.contract.chat import ignored_fields
from service.contract.endpoints import DETOKENIZE, TOKENIZE
from service.contract.tokens import DetokenizeReply, DetokenizeRequest, TokenizeReply, TokenizeRequest

api = APIBlueprint("tokens", __name__, url_prefix="/v1", abp_responses=REFUSALS)


@api.post("/tokenize", responses={200: TokenizeReply})
def tokenize(header: ChatHeaders, body: TokenizeRequest) -> Response:
    """The tokens of a text, or of a conversation with its images, videos and sounds. vLLM: POST /tokenize."""
    return _answered(TOKENIZE, body, header)


@api.post("/detokenize", responses={200: DetokenizeReply})
def detokenize(header: ChatHeaders, body: DetokenizeRequest) -> Response:
    """The text that tokens stand for. vLLM: POST /detokenize."""
    return _answered(DETOKENIZE, body, header)


def _answered(endpoint: str, body: TokenizeRequest | DetokenizeRequest, header: ChatHeaders) -> Response:
    parts, caller, raw = current_parts(), current_caller(), current_request().raw_body()
    job = start_request(
        parts,
        caller,
        body.model,
        raw,
        endpoint=endpoint,
        wait_for_model=header.wait_for_model,
        path_model=current_path_model(),
    )
    try:
        with closing(listen(parts, caller, job.job_id)) as events:
            reply = reply_in(events)
    finally:
        forget_count(parts, job.job_id)
    response = Response(orjson.dumps(reply), content_type="application/json")
    name_ignored(response, ignored_fields(body))
    return response
