"""A small typed client for a sluice server: plain HTTP, OpenAI's shapes."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import httpx

from service.errors import SluiceError, Unavailable, error_from_dict

Json = dict[str, Any]
DONE = "[DONE]"
# How long the server may hold a question about a preflight.
PREFLIGHT_SECONDS = 30.0
# Loopback servers accept any key until one is made.
ANY_KEY = "EMPTY"
PROBE_SECONDS = 2.0
QUIET_SECONDS = 30.0
RESULTS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Batch:
    """A batch as the server sees it. skipped: cancelled or expired lines. raw: the whole object."""

    id: str
    status: str
    total: int
    completed: int
    failed: int
    skipped: int
    prompt_tokens: int
    completion_tokens: int
    output_file_id: str | None
    error_file_id: str | None
    raw: Json

    @classmethod
    def from_json(cls, body: Json) -> "Batch":
        """Read `GET /v1/batches/{id}`."""
        counts = body.get("request_counts") or {}
        usage = body.get("usage") or {}
        return cls(
            id=body["id"],
            status=body["status"],
            total=counts.get("total", 0),
            completed=counts.get("completed", 0),
            failed=counts.get("failed", 0),
            skipped=counts.get("cancelled", 0) + counts.get("expired", 0),
            prompt_tokens=usage.get("input_tokens", 0),
            completion_tokens=usage.get("output_tokens", 0),
            output_file_id=body.get("output_file_id"),
            error_file_id=body.get("error_file_id"),
            raw=body,
        )

    @property
    def done(self) -> int:
        """Lines that have ended, well or not."""
        return self.completed + self.failed + self.skipped

    @property
    def has_succeeded(self) -> bool:
        """Whether every line has an answer."""
        return 0 < self.total == self.completed

    @property
    def reasons(self) -> list[str]:
        """Why the batch as a whole failed, where it did."""
        errors = (self.raw.get("errors") or {}).get("data") or ()
        return [str(error.get("message")) for error in errors]

    @property
    def is_paused(self) -> bool:
        """Whether it rests until somebody resumes it."""
        return self.raw.get("paused_at") is not None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen, and the files are there."""
        return self.status in ("completed", "failed", "expired", "cancelled")


class Client:
    """Talks to one server. Every error is a SluiceError; Unavailable if nobody answers."""

    def __init__(self, url: str, key: str | None = None, *, timeout_seconds: float = 60.0) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key or ANY_KEY}"},
            timeout=httpx.Timeout(timeout_seconds, connect=5.0),
            # A proxy from the environment has no business between us and this machine's own server.
            trust_env=not _is_local(self.url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def is_ready(self) -> bool:
        """Whether a model can answer."""
        return self._says_yes("/ready")

    def is_alive(self) -> bool:
        """Whether the server answers at all."""
        return self._says_yes("/health")

    def models(self) -> list[Json]:
        """The models that can be asked for."""
        return list(self._get("/v1/models")["data"])

    def upload(
        self, content: BinaryIO, filename: str, purpose: str, *, expires_seconds: int | None = None
    ) -> Json:
        """Send a file, streaming it from disk. expires_seconds: after which the server forgets it."""
        fields: dict[str, str] = {"purpose": purpose}
        if expires_seconds is not None:
            fields |= {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(expires_seconds)}
        return self._json("POST", "/v1/files", files={"file": (filename, content)}, data=fields, timeout=None)

    def create_batch(
        self,
        input_file_id: str,
        *,
        defaults: Mapping[str, Any] | None = None,
        base_dir: Path | None = None,
        completion_window: str = "24h",
        dedupe: bool = False,
        idempotency_key: str | None = None,
    ) -> Batch:
        """Submit an uploaded manifest; the same idempotency key gives the same batch.

        completion_window: hours or days, such as `24h`, after which lines that did not run expire. dedupe: equal
        lines are computed once.
        """
        body: Json = {
            "input_file_id": input_file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": completion_window,
        }
        if defaults:
            body["defaults"] = dict(defaults)
        if base_dir is not None:
            body["base_dir"] = str(base_dir)
        if dedupe:
            body["dedupe"] = True
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return Batch.from_json(self._json("POST", "/v1/batches", json=body, headers=headers))

    def preflight(self, input_file_id: str, *, defaults: Mapping[str, Any]) -> Json:
        """What an uploaded manifest would come to; waits until that is known."""
        body: Json = {"input_file_id": input_file_id, "defaults": dict(defaults)}
        told = self._json("POST", "/v1/preflight", json=body)
        while told["status"] in ("scanning", "measuring"):
            told = self._get(f"/v1/preflight/{told['id']}", wait=PREFLIGHT_SECONDS)
        return told

    def batch(self, batch_id: str) -> Batch:
        """One batch and its progress."""
        return Batch.from_json(self._get(f"/v1/batches/{batch_id}"))

    def batches(self, limit: int = 20) -> list[Batch]:
        """The newest batches."""
        return [Batch.from_json(row) for row in self._get("/v1/batches", limit=limit)["data"]]

    def cancel_batch(self, batch_id: str) -> Batch:
        """Stop a batch; finished lines keep their results."""
        return self._control(batch_id, "cancel")

    def pause_batch(self, batch_id: str) -> Batch:
        """Let a batch rest; lines that run are finished."""
        return self._control(batch_id, "pause")

    def resume_batch(self, batch_id: str) -> Batch:
        """Let a paused batch go on."""
        return self._control(batch_id, "resume")

    def retry_batch(self, batch_id: str, **wanted: Any) -> Batch:
        """Make a batch of what an ended one did not answer. wanted: states, only_retryable, priority, …"""
        return self._control(batch_id, "retry", wanted)

    def jobs(self, **filters: Any) -> list[Json]:
        """A page of jobs."""
        return list(self._get("/v1/jobs", **filters)["data"])

    def usage(self, **filters: Any) -> Json:
        """Answered requests and their tokens. filters: start, end, group_by, tenant."""
        return self._get("/v1/usage", **filters)

    def results(
        self, batch_id: str, wanted: str, *, cursor: str = "", follow: bool = False
    ) -> AbstractContextManager[httpx.Response]:
        """What has ended after `cursor`, to be read piece by piece. wanted: jsonl, csv or parquet.

        follow: until all of it has been told; a server that says nothing for half a minute is gone.
        """
        params: Json = {"format": wanted, "cursor": cursor or None}
        if follow:
            params["follow"] = "true"
        elif wanted != "parquet":
            params["limit"] = RESULTS_AT_ONCE
        chosen = {name: value for name, value in params.items() if value is not None}
        timeout = httpx.Timeout(QUIET_SECONDS, connect=5.0) if follow else None
        return self._open("GET", f"/v1/batches/{batch_id}/results", params=chosen, timeout=timeout)

    def has_told_all(self, batch_id: str, cursor: str) -> bool:
        """Whether a batch will never bring anything after this cursor."""
        with self.results(batch_id, "jsonl", cursor=cursor) as response:
            is_complete = response.headers["x-sluice-complete"] == "true"
            return is_complete and response.headers["x-sluice-cursor"] == cursor

    def download(self, file_id: str, target: Path) -> None:
        """Write a file's content to `target`, whole or not at all."""
        scratch = target.with_name(f".{target.name}.part")
        with (
            self._open("GET", f"/v1/files/{file_id}/content", timeout=None) as response,
            scratch.open("wb") as file,
        ):
            for piece in response.iter_bytes(1 << 20):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(target)

    def chat(self, body: Mapping[str, Any]) -> Json:
        """One chat completion."""
        return self._json("POST", "/v1/chat/completions", json=dict(body), timeout=None)

    def stream_chat(self, body: Mapping[str, Any]) -> Iterator[Json]:
        """The chunks of one chat completion, as they come."""
        request = {**body, "stream": True, "stream_options": {"include_usage": True}}
        with self._open("POST", "/v1/chat/completions", json=request, timeout=None) as response:
            for line in response.iter_lines():
                if not line.startswith("data:") or (data := line[5:].strip()) == DONE:
                    continue
                chunk = json.loads(data)
                if "error" in chunk:
                    raise error_from_dict(chunk["error"], 500)
                yield chunk

    def _control(self, batch_id: str, verb: str, body: Json | None = None) -> Batch:
        return Batch.from_json(self._json("POST", f"/v1/batches/{batch_id}/{verb}", json=body or {}))

    def _says_yes(self, path: str) -> bool:
        try:
            return self._http.get(path, timeout=PROBE_SECONDS).status_code == 200
        except httpx.TransportError:
            return False

    def _get(self, path: str, **params: Any) -> Json:
        return self._json(
            "GET", path, params={name: value for name, value in params.items() if value is not None}
        )

    def _json(self, method: str, path: str, **options: Any) -> Json:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._nobody_there(error) from None
        if response.is_error:
            raise _error_of(response)
        return _json_or_empty(response)

    @contextmanager
    def _open(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """A response whose body is read piece by piece."""
        try:
            with self._http.stream(method, path, **options) as response:
                if response.is_error:
                    response.read()
                    raise _error_of(response)
                yield response
        except httpx.TransportError as error:
            raise self._nobody_there(error) from None

    def _nobody_there(self, error: httpx.TransportError) -> Unavailable:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Unavailable(f"No sluice answers at {self.url}.", hint="Start one with: sluice serve")
        return Unavailable(f"The connection to {self.url} was cut.", hint="Try again.")


def _is_local(url: str) -> bool:
    return httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")


def _json_or_empty(response: httpx.Response) -> Json:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _error_of(response: httpx.Response) -> SluiceError:
    error = _json_or_empty(response).get("error")
    if isinstance(error, dict):
        return error_from_dict(error, response.status_code)
    return error_from_dict({"message": f"The server answered {response.status_code}."}, response.status_code)
