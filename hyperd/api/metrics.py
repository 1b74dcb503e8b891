"""Numbers for Prometheus."""

import time
from collections import Counter as Tally
from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from hyperd.api.services import Services
from hyperd.api.views import container_state
from hyperd.pods import policy

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What is counted of one daemon. Pods are counted when somebody asks."""

    def __init__(self, services: Services, version: str) -> None:
        self._services = services
        self._version = version
        self._began = time.time()
        self._registry = CollectorRegistry(auto_describe=True)
        self._requests = Counter("hyperd_requests", "Requests by route and status", ["method", "route", "status"], registry=self._registry)
        self._seconds = Histogram("hyperd_request_seconds", "Time to the answer's end", ["route"], registry=self._registry)
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Called by the registry."""
        pods = self._services.manager.all()
        states = Tally(policy.state_of(pod.book.pod) for pod in pods)
        yield _gauge("hyperd_pods", "Pods by state", "state", states)
        everyone = [(pod, one) for pod in pods for one in pod.book.containers.values()]
        yield _gauge("hyperd_containers", "Containers by state", "state", Tally(container_state(pod, one) for pod, one in everyone))
        yield _single("hyperd_container_restarts", "Restarts of the containers that there are", sum(one.restarts for _, one in everyone))
        yield _single("hyperd_streams", "Open streams", self._services.streams)
        yield _single("hyperd_start_time_seconds", "When the daemon started", self._began)
        yield _gauge("hyperd_build_info", "The version", "version", {self._version: 1})


def _gauge(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _single(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


METRICS = web.AppKey("metrics", Metrics)
DESCRIPTION = web.AppKey("description", bytes)
