"""GET /metrics, for Prometheus: requests as this process saw them, queues and workers as SQL knows them."""

import time
from collections.abc import Iterator
from typing import cast

from flask import Flask, Response, current_app, g, request
from flask_openapi3.blueprint import APIBlueprint
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.actions.gauge_queues import gauge_queues
from service.actions.parts import Parts
from service.api.context import current_parts
from service.api.errors import REFUSALS

EXTENSION = "sluice.metrics"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

api = APIBlueprint("metrics", __name__, abp_responses=REFUSALS)


class HttpMetrics:
    """The requests that one app has answered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        labels = ("method", "route", "status")
        self.requests = Counter("sluice_http_requests", "Requests answered.", labels, registry=registry)
        self.seconds = Histogram(
            "sluice_http_request_seconds",
            "Time until a response began.",
            ("route",),
            buckets=BUCKETS_SECONDS,
            registry=registry,
        )


class QueueCollector(Collector):
    """Looks into SQL when it is scraped."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def describe(self) -> list[Metric]:
        """Nothing in advance: registering must not touch the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Jobs that are not over by state and class, and live workers by role."""
        gauges = gauge_queues(self._parts)
        jobs = GaugeMetricFamily("sluice_jobs", "Jobs that have not ended.", labels=("state", "class"))
        for (state, job_class), count in gauges.jobs.items():
            jobs.add_metric([state, job_class], count)
        workers = GaugeMetricFamily("sluice_workers", "Workers with a live lease.", labels=("role",))
        for role, count in gauges.workers.items():
            workers.add_metric([role], count)
        yield jobs
        yield workers


@api.get("/metrics", responses={200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}})
def metrics() -> Response:
    """Counters and gauges in Prometheus's text format."""
    http = _http_metrics()
    registry = CollectorRegistry()
    registry.register(QueueCollector(current_parts()))
    text = generate_latest(http.registry) + generate_latest(registry)
    return Response(text, content_type=CONTENT_TYPE_LATEST)


def count_requests(app: Flask) -> None:
    """Count every response of this app by its route, never by its path: paths are a stranger's."""
    app.extensions[EXTENSION] = HttpMetrics(CollectorRegistry())

    def begin() -> None:
        g.began = time.monotonic()

    def count(response: Response) -> Response:
        http = _http_metrics()
        route = request.url_rule.rule if request.url_rule else "unknown"
        method = request.method if request.method in METHODS else "other"
        http.requests.labels(method, route, response.status_code).inc()
        http.seconds.labels(route).observe(time.monotonic() - g.began)
        return response

    app.before_request(begin)
    app.after_request(count)


def _http_metrics() -> HttpMetrics:
    return cast("HttpMetrics", current_app.extensions[EXTENSION])
