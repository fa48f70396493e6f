"""Before a request is handled: may its tenant ask for more? And in the answer: how much is left."""

from flask import Flask, Response, g, request
from werkzeug.routing import Rule

from service.actions.check_quotas import Allowance, Asked, Verdict, check_quotas
from service.api.context import current_caller, current_parts

ADMIN = "/v1/admin"
# What stops or steers work is never refused: it is how a tenant gets room again.
CONTROLS = frozenset({"cancel", "pause", "resume"})
# POSTs below these spend no tokens; those below the next leave jobs that wait, or a file.
SPEND_NOTHING = ("/v1/files", "/v1/webhook_endpoints", "/v1/tokenize", "/v1/detokenize", "/v1/preflight")
QUEUE = ("/v1/jobs", "/v1/batches")
STORE = ("/v1/files", "/v1/jobs", "/v1/preflight")


def hold_quotas(app: Flask) -> None:
    """Refuse what goes beyond a tenant's quotas, and say what is left of them in OpenAI's headers."""
    app.before_request(_check)
    app.after_request(_tell)


def _check() -> None:
    asked = _asked(request.url_rule, request.method)
    if asked is None:
        return
    g.verdict = check_quotas(current_parts(), current_caller(), asked)
    if g.verdict.refusal is not None:
        raise g.verdict.refusal


def _asked(rule: Rule | None, method: str) -> Asked | None:
    """What a request would use; None if it is not counted: probes, paths that lead nowhere, and the admin's."""
    if rule is None or "caller" not in g or rule.rule.startswith(ADMIN):
        return None
    path = rule.rule
    if method != "POST" or path.rpartition("/")[2] in CONTROLS or path.endswith(">"):
        return Asked() if current_parts().settings.quota_counts_polls else None
    return Asked(
        spends=not path.startswith(SPEND_NOTHING),
        queues=path.startswith(QUEUE),
        num_bytes=(request.content_length or 0) if path.startswith(STORE) else None,
    )


def _tell(response: Response) -> Response:
    verdict: Verdict = g.get("verdict") or Verdict()
    for name, allowance in (("requests", verdict.requests), ("tokens", verdict.tokens)):
        if allowance is not None:
            response.headers.update(_headers(name, allowance))
    return response


def _headers(name: str, allowance: Allowance) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{name}": str(allowance.limit),
        f"x-ratelimit-remaining-{name}": str(allowance.remaining),
        f"x-ratelimit-reset-{name}": _duration(allowance.reset_seconds),
    }


def _duration(seconds: float) -> str:
    """`6m0s`, as OpenAI's clients read it."""
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    said = f"{hours}h" if hours else ""
    said += f"{minutes}m" if hours or minutes else ""
    return f"{said}{rest:g}s"
