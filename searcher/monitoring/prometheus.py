"""What a worker does, as figures that Prometheus collects: `--metrics-port` of `worker`, `optimize` and `resume`.

The figures are those of this process since it started, counted where the same events become JSON lines. What all
workers of a study have done together stands in its database: `exeunt status --watch`.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from exeunt import __version__

from ...backends.errors import InputError
from ...studies.database.transactions import retries, seconds_spent
from ...studies.workers.shared_state import BASELINES, FRONT, SEARCHING
from .endpoint import Endpoint
from .json_lines import listening
from .progress import ProgressListener

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

WORK = logging.getLogger("exeunt.work")
STARTING = "starting"
_STATES = (STARTING, BASELINES, SEARCHING, FRONT)
# Seconds of a chunk: from a toy's to those of large networks.
BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


class Meter(ProgressListener):
    """Counts what its process does, and forwards events to the listener that it wraps."""

    def __init__(self, inner: ProgressListener) -> None:
        from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, ProcessCollector

        self.registry = CollectorRegistry()
        known: dict[str, Any] = {"registry": self.registry}
        self._inner = inner
        # Registered once it is known: an empty one would be another series.
        self._info = Info("exeunt_worker", "The worker: its study, device, type and version.", registry=None)
        self._state = Enum("exeunt_state", "What the worker is doing.", states=_STATES, **known)
        self._budget = Gauge("exeunt_budget_spent_ratio", "The share of the study's budget that is spent.", **known)
        self._images = Counter("exeunt_images", "Images sampled and committed.", **known)
        self._trials = Counter("exeunt_trials", "Finished trials, by outcome.", ["state"], **known)
        self._device = Counter("exeunt_device_seconds", "Device time, by kind of work.", ["work"], **known)
        self._chunk = Histogram("exeunt_chunk_seconds", "Device time of a chunk of images.", buckets=BUCKETS, **known)
        self._last = Gauge("exeunt_last_commit_timestamp_seconds", "Time of the last commit of a chunk.", **known)
        for state in ("complete", "failed"):
            self._trials.labels(state)
        for work in ("sampling", "timing"):
            self._device.labels(work)
        self.registry.register(_Storage())
        ProcessCollector(registry=self.registry)

    def take(self, event: str, about: Mapping[str, Any]) -> None:
        """Counts an event; which there are is said at `json_lines.JsonLines`."""
        match event:
            case "working":
                self._info.info({"version": __version__, **{name: str(value) for name, value in about.items()}})
                self.registry.register(self._info)
            case "committed":
                self._images.inc(about["images"])
                self._device.labels("sampling").inc(about["seconds"])
                self._chunk.observe(about["seconds"])
                self._last.set_to_current_time()
            case "timed":
                self._device.labels("timing").inc(about["seconds"])
            case "trial":
                self._trials.labels(about["state"]).inc()
            case _:
                pass

    def say(self, message: str) -> None:
        self._inner.say(message)

    def phase(self, name: str, total: float) -> None:
        if name in _STATES:
            self._state.state(name)
        self._inner.phase(name, total)

    def advance(self, done: float, images: int = 0) -> None:
        self._budget.set(done)
        self._inner.advance(done, images)

    def event(self, name: str, **values: Any) -> bool:
        return self._inner.event(name, **values)


class _Storage:
    """Metrics of other objects, read when Prometheus collects them."""

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily

        what = "Waits for a database that was out of reach, or whose transaction was cut off."
        yield CounterMetricFamily("exeunt_storage_retries", what, value=retries())
        what = "Time in transactions, waiting for other writers included."
        yield CounterMetricFamily("exeunt_storage_seconds", what, value=seconds_spent())


@contextmanager
def metered(endpoint: Endpoint | None, watch: ProgressListener) -> Generator[ProgressListener]:
    """A watch that also counts, with its figures served at an endpoint for as long as the block lasts.

    Without an endpoint it is the watch itself.

    Raises InputError: prometheus-client is not installed, or the port is not available.
    """
    if endpoint is None:
        yield watch
        return
    require_client()
    meter = Meter(watch)
    with (
        _served(endpoint, meter.registry) as port,
        listening(WORK, lambda record: meter.take(record.getMessage(), getattr(record, "about", {}))),
    ):
        watch.say(f"metrics: http://{Endpoint(endpoint.address, port)}/metrics")
        yield meter


def require_client() -> None:
    """Raises InputError if prometheus-client is not installed."""
    if find_spec("prometheus_client") is None:
        raise InputError("metrics-port: prometheus-client is not installed. Type pip install 'exeunt[metrics]'.")


@contextmanager
def _served(endpoint: Endpoint, registry: CollectorRegistry) -> Generator[int]:
    """A thread that answers; yields the port that it has."""
    from prometheus_client import start_http_server

    endpoint.require_free(1)
    try:
        server, thread = start_http_server(endpoint.port, endpoint.address, registry)
    except OSError as error:
        raise endpoint.taken(error) from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
