"""gRPC's own health service, which says what `Probe` says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from grpc_health.v1 import health, health_pb2


class Health(health.HealthServicer):
    """Answers `Check`, and tells those who watch."""

    def __init__(self, services: Sequence[str], trouble: Callable[[], str]) -> None:
        """`trouble` says why no calls are taken; it is empty where they are."""
        super().__init__()
        self._services, self._trouble = services, trouble
        self._status: Any = None
        self.look()

    def look(self) -> None:
        """Tells those who watch where it is otherwise than before."""
        status = getattr(health_pb2.HealthCheckResponse, "NOT_SERVING" if self._trouble() else "SERVING")
        if status != self._status:
            self._status = status
            for name in self._services:
                self.set(name, status)

    def Check(self, request: Any, context: Any) -> Any:
        """How it is now."""
        self.look()
        return super().Check(request, context)

    def Watch(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:
        """How it is now, and whenever that changes."""
        self.look()
        return super().Watch(request, context, send_response_callback)
