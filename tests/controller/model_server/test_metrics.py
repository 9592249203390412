"""What a model server counts, as Prometheus reads it."""

from __future__ import annotations

from deepgen.controller.model_server.metrics import Histogram, Metrics


def test_a_sum_keeps_its_digits() -> None:
    """Prometheus makes a rate of what was added since the last look: a rounded sum would stand still, and then jump."""
    held = Histogram((1, 10_000_000))
    held.add(12_345_678)
    held.add(0.25)
    assert held.lines("x") == [
        'x_bucket{le="1"} 1',
        'x_bucket{le="10000000"} 1',
        'x_bucket{le="+Inf"} 2',
        "x_sum 12345678.25",
        "x_count 2",
    ]


def test_a_name_may_hold_quotes() -> None:
    assert 'deepgen_model_info{model="a \\"b\\" \\\\"} 1' in Metrics('a "b" \\').text().splitlines()
