"""The endpoints that a job can be for, and how the desk reads the request of each."""

from service.contract.chat import ChatRequest, parse_chat_request

CHAT = "/v1/chat/completions"
TOKENIZE = "/v1/tokenize"
DETOKENIZE = "/v1/detokenize"
TRANSCRIBE = "/v1/audio/transcriptions"
PREFLIGHT = "/v1/preflight"
# The desk answers these itself; the model computes nothing for them, and so nobody pays for their tokens.
WITHOUT_ENGINE = frozenset({TOKENIZE, DETOKENIZE, PREFLIGHT})


def request_of(endpoint: str, raw: bytes) -> ChatRequest:
    """The conversation that a job's body asks to continue. BadRequest names the field and the reason."""
    assert endpoint == CHAT, "no other endpoint makes jobs"
    return parse_chat_request(raw)
