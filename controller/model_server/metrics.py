"""What a model server counts, for Prometheus: rows, requests, batches, latencies and what waits."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ...kernel.errors import UserError

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
CONTENT = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """How often values up to each bound came."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Counts a value."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> list[str]:
        """In the text format, without what it means."""
        total, lines = 0, []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self._sum:.15g}", f"{name}_count {total}"]


class Metrics:
    """All counts of a server; several threads add to them."""

    def __init__(self, name: str) -> None:
        self._model = name.replace("\\", "\\\\").replace('"', '\\"')
        self._lock = threading.Lock()
        self._rows = 0
        self._requests: dict[tuple[str, str], int] = {}
        self._sizes, self._forwards, self._latencies = Histogram(SIZES), Histogram(SECONDS), Histogram(SECONDS)
        self.waiting: Callable[[], int] = lambda: 0
        """How many rows wait now."""

    def batch(self, rows: int, seconds: float) -> None:
        """The model has answered a batch."""
        with self._lock:
            self._sizes.add(rows)
            self._forwards.add(seconds)

    def answered(self, rows: int, seconds: float) -> None:
        """A request came and was answered: so many of its rows, none where it has bad ones."""
        with self._lock:
            self._rows += rows
            self._latencies.add(seconds)

    def request(self, method: str, outcome: str) -> None:
        """A request has ended: "OK", or the name of the gRPC status, or "failure" or "bad_rows"."""
        with self._lock:
            key = method, outcome
            self._requests[key] = self._requests.get(key, 0) + 1

    def text(self) -> str:
        """In Prometheus's text format."""
        with self._lock:
            lines = _headed("deepgen_model_info", "gauge", "the model that is served")
            lines.append(f'deepgen_model_info{{model="{self._model}"}} 1')
            lines += _headed("deepgen_rows_total", "counter", "rows that were answered")
            lines.append(f"deepgen_rows_total {self._rows}")
            lines += _headed("deepgen_requests_total", "counter", "requests by method and how they ended")
            for (method, outcome), count in sorted(self._requests.items()):
                lines.append(f'deepgen_requests_total{{method="{method}",outcome="{outcome}"}} {count}')
            lines += _headed("deepgen_rows_waiting", "gauge", "rows that wait for the model")
            lines.append(f"deepgen_rows_waiting {self.waiting()}")
            for name, held, what in (
                ("deepgen_batch_rows", self._sizes, "rows of a batch"),
                ("deepgen_batch_seconds", self._forwards, "seconds that the model took for a batch"),
                ("deepgen_request_seconds", self._latencies, "seconds from the arrival of rows to their answer"),
            ):
                lines += [*_headed(name, "histogram", what), *held.lines(name)]
        return "\n".join(lines) + "\n"


def _headed(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]


class MetricsPage:
    """`GET /metrics` on a port of this machine, in a thread of its own."""

    def __init__(self, metrics: Metrics, port: int, host: str = "127.0.0.1") -> None:
        """Listens; port 0 is any free one.

        Raises:
            UserError: somebody else has the port.
        """

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.path.partition("?")[0] == "/metrics"
                body = metrics.text().encode() if known else b"see /metrics\n"
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", CONTENT)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        try:
            self._server = ThreadingHTTPServer((host, port), Page)
        except (OSError, OverflowError) as error:
            words = error.strerror if isinstance(error, OSError) else "ports are at most 65535"
            raise UserError(f"--metrics-port {port} cannot be listened on: {words}") from None
        self.address = f"http://{host}:{self._server.server_port}/metrics"
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Gives the port back."""
        self._server.shutdown()
        self._server.server_close()
