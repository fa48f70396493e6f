"""A worker with no model: it claims real jobs from the real store, and answers by a script.

What it does is the last words of the request:
    say TEXT        answers TEXT, word by word      stall           begins, and waits to be cancelled
    fail            fails with a bad image          lose            says a word, then its attempt is lost
    resume TEXT     says a word, then its attempt is lost; the next one answers TEXT
    (else)          answers how many media it saw
"""

import re
import threading
import time

from service.actions.close_batches import close_batches
from service.actions.load_body import load_body
from service.actions.parts import Parts
from service.contract.jobs import Cancelled, ClaimedJob, Failed, Outcome, Succeeded, Usage
from service.contract.lifecycle import JobClass, WorkerRole
from service.contract.openai import (
    ChatRequest,
    choice_body,
    completion_body,
    media_refs,
    parse_chat_request,
    template_messages,
)
from service.contract.streams import Delta, Ended, StreamEvent
from service.errors import BadMedia, WorkerLost
from service.store import jobs, recovery, workers

POLL_SECONDS = 0.02
LISTENER_GRACE_SECONDS = 2.0


class ScriptedWorker:
    """Runs in a thread until stopped. `model` is what it serves."""

    def __init__(self, parts: Parts, model: str) -> None:
        self._parts, self._model = parts, model
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stalled: dict[int, ClaimedJob] = {}
        self._stalled_at: dict[int, float] = {}
        self.cancelled: list[int] = []
        with parts.database.transaction() as db:
            self.id = workers.register(db, WorkerRole.ENGINE, "test", [model], "cpu")
            workers.set_model_state(db, self.id, model, "ready", "r1")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        with self._parts.database.transaction() as db:
            workers.retire(db, self.id, "stopped")

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            with self._parts.database.transaction() as db:
                workers.heartbeat(db, self.id)
                recovery.wake_due(db)
                claimed = jobs.claim(db, models=[self._model], owner=self.id, limit=8)
                if claimed:
                    jobs.begin(db, claimed, self.id)
            for job in claimed:
                self._answer(job)
            self._drop_stalled()

    def _answer(self, job: ClaimedJob) -> None:
        request = parse_chat_request(load_body(self._parts, job))
        script = _last_words(request)
        verb, _, words = script.partition(" ")
        if script == "stall":
            self._publish(job, Delta("Well"))
            self._stalled[job.id] = job
            if job.job_class is JobClass.CHAT:
                self._stalled_at[job.id] = time.monotonic()
        elif script == "fail":
            self._finish(
                Failed(job, BadMedia("The image is broken.", param="messages[0].content[0].image_url"))
            )
        elif verb in ("lose", "resume") and job.attempt == 1:
            self._publish(job, Delta((words or "Once").split()[0]))
            with self._parts.database.transaction() as db:
                jobs.finish(db, [Failed(job, WorkerLost("Scripted."))], self.id)
        else:
            text = words if verb in ("say", "resume") else _sight(request)
            for word in re.findall(r"\s*\S+", text):
                self._publish(job, Delta(word))
            self._finish(_reply(job, text))

    def _drop_stalled(self) -> None:
        if not self._stalled:
            return
        with self._parts.database.reading() as db:
            wanted = jobs.cancel_requested(db, self.id)
        young = time.monotonic() - LISTENER_GRACE_SECONDS
        gone = {
            job_id
            for job_id, since in self._stalled_at.items()
            if since < young and not self._parts.streams.is_alive(job_id)
        }
        for job_id in (set(wanted) | gone) & set(self._stalled):
            self.cancelled.append(job_id)
            self._finish(Cancelled(self._stalled.pop(job_id)))

    def _finish(self, outcome: Outcome) -> None:
        with self._parts.database.transaction() as db:
            recorded = jobs.finish(db, [outcome], self.id)
        close_batches(self._parts, recorded.batches)
        self._publish(outcome.job, Ended())

    def _publish(self, job: ClaimedJob, *events: StreamEvent) -> None:
        if job.streams:
            self._parts.streams.publish_many([(job.id, job.attempt, event) for event in events])


def _last_words(request: ChatRequest) -> str:
    parts = template_messages(request)[-1]["content"]
    return next((part["text"] for part in reversed(parts) if part["type"] == "text"), "")


def _sight(request: ChatRequest) -> str:
    return f"I see {len(media_refs(request))} media."


def _reply(job: ClaimedJob, text: str) -> Succeeded:
    usage = Usage(prompt_tokens=7, completion_tokens=len(text.split()), text_tokens=7, prompt_seconds=0.1)
    choice = choice_body(index=0, text=text, finish_reason="stop")
    body = completion_body(
        job_id=job.id, created=int(time.time()), model=job.model, choices=[choice], usage=usage
    )
    return Succeeded(job, body, usage)
