"""How a classifier's and a regressor's answers are drawn; one style for every picture of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

COLOURS = (
    *("#2563eb", "#ea580c", "#059669", "#9333ea", "#dc2626"),
    *("#0891b2", "#ca8a04", "#db2777", "#4d7c0f", "#64748b"),
)
INK, PALE = "#1f2937", "#cbd5e1"
STYLE = {
    "figure.figsize": (6.4, 4.4),
    "figure.constrained_layout.use": True,
    "savefig.dpi": 160,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#94a3b8",
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": "#475569",
    "ytick.color": "#475569",
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
_MOST_NAMED = 20
"""Classes that get a curve with a name; of more, only the mean is named."""


def canvas(size: tuple[float, float], *shape: int, **options: Any) -> tuple[Figure, Any]:
    """A figure of that size in inches and its axes; without pyplot, which would keep every figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    return figure, figure.subplots(*shape, **options)


def confusion(predicted: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Figure:
    """Share of each true class (rows) that was taken for each class (columns), from class numbers [rows]."""
    import numpy as np

    size = len(names)
    counts = np.zeros((size, size), int)
    np.add.at(counts, (labels, predicted), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(11.0, 3.4 + 0.5 * size)
    figure, axis = canvas((side + 0.8, side))
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.set_title(f"Confusion matrix: {np.trace(counts) / counts.sum():.1%} of {counts.sum():,} rows right")
    axis.set(xlabel="predicted", ylabel="true")
    if size <= 40:
        turned = max(map(len, names)) > 4 and size > 2
        axis.set_xticks(
            range(size), names, rotation=40 if turned else 0, ha="right" if turned else "center", rotation_mode="anchor"
        )
        axis.set_yticks(range(size), names)
    if size <= 20:
        for row, column in np.argwhere(counts > 0):
            share = shares[row, column]
            text = f"{share:.0%}\n{counts[row, column]:,}" if size <= 8 else f"{100 * share:.0f}"
            dark = share > 0.55
            small = {"fontsize": 10 if size <= 8 else 8}
            axis.text(column, row, text, ha="center", va="center", color="white" if dark else INK, **small)
    bar = figure.colorbar(image, ax=axis, shrink=0.75, format="{x:.0%}")
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    return figure


def roc(shares: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> Figure:
    """One curve a class against all others, from probabilities and truth [rows, classes]; absent classes have none."""
    import numpy as np

    curves = {
        i: _roc_curve(shares[:, i], truth[:, i]) for i in range(shares.shape[1]) if 0 < truth[:, i].sum() < len(truth)
    }
    areas = {i: float(np.trapezoid(hits, alarms)) for i, (alarms, hits) in curves.items()}
    many = len(curves) > _MOST_NAMED
    figure, axis = canvas((5.4 if len(curves) == 1 else 7.4, 4.8))
    axis.plot([0, 1], [0, 1], "--", color=PALE, linewidth=1.2)
    for number, (index, (alarms, hits)) in enumerate(sorted(curves.items(), key=lambda item: -areas[item[0]])):
        colour = PALE if many else COLOURS[number % len(COLOURS)]
        style = "-" if number < len(COLOURS) else "--"
        label = None if many else f"{names[index]}  {areas[index]:.3f}"
        axis.plot(alarms, hits, style, color=colour, linewidth=0.8 if many else 1.8, label=label)
    if len(curves) > 1:
        at = np.linspace(0, 1, 201)
        mean = np.mean([np.interp(at, alarms, hits) for alarms, hits in curves.values()], axis=0)
        label = f"mean of {len(curves)}  {np.mean(list(areas.values())):.3f}"
        axis.plot(at, mean, color=INK, linewidth=2.4, label=label)
    axis.set(
        title="ROC", xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01)
    )
    axis.set_aspect("equal")
    if len(curves) == 1:
        axis.legend(title="area", loc="lower right")
    elif curves:
        axis.legend(title="area", loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def calibration(shares: np.ndarray, truth: np.ndarray) -> Figure:
    """Reliability diagram in ten bins of equal width; ECE is the mean gap, weighted by rows (Naeini et al., 2015)."""
    import numpy as np

    edges = np.linspace(0, 1, 11)
    bins = np.clip(np.digitize(shares, edges) - 1, 0, 9)
    counts = np.bincount(bins, minlength=10)
    filled = counts > 0
    said = np.bincount(bins, shares, 10)[filled] / counts[filled]
    found = np.bincount(bins, truth.astype(float), 10)[filled] / counts[filled]
    error = float(np.sum(counts[filled] * abs(said - found)) / counts.sum())
    # Standard error: how far a point may lie off by chance; one row more on either side, so that 0 of 2 is not certain.
    smooth = (found * counts[filled] + 1) / (counts[filled] + 2)
    spread = np.sqrt(smooth * (1 - smooth) / (counts[filled] + 2))
    figure, (axis, below) = canvas((5.4, 5.4), 2, 1, sharex=True, height_ratios=(4, 1))
    axis.plot([0, 1], [0, 1], "--", color=PALE, linewidth=1.2)
    axis.errorbar(said, found, yerr=spread, fmt="o-", color=COLOURS[0], markersize=5, elinewidth=1, capsize=2)
    axis.set(
        title=f"Calibration: expected calibration error {error:.3f}", ylabel="share that is right", ylim=(-0.03, 1.03)
    )
    below.bar(edges[:-1] + 0.05, counts, width=0.092, color=PALE)
    below.set(xlabel="predicted probability", ylabel="rows", xlim=(0, 1))
    below.grid(False)
    return figure


def scatter(scores: np.ndarray, labels: np.ndarray) -> Figure:
    """Predicted against true numbers [rows, values], with Pearson's r and the root of the mean squared error."""
    import numpy as np

    figure, axis = canvas((5.4, 5.0))
    low, high = float(min(scores.min(), labels.min())), float(max(scores.max(), labels.max()))
    margin = 0.03 * (high - low or 1.0)
    axis.plot([low, high], [low, high], "--", color="#94a3b8", linewidth=1.2)
    if scores.size > 4000 and scores.shape[1] == 1:
        axis.hexbin(labels.ravel(), scores.ravel(), gridsize=45, mincnt=1, bins="log", cmap="Blues", linewidths=0)
    else:
        alpha = 0.8 if scores.size < 200 else 0.35
        for value in range(scores.shape[1]):
            axis.scatter(labels[:, value], scores[:, value], s=14, alpha=alpha, color=COLOURS[value % 10], linewidths=0)
    flat, true = scores.ravel(), labels.ravel().astype(float)
    r = float(np.corrcoef(flat, true)[0, 1]) if flat.std() > 0 and true.std() > 0 else float("nan")
    rmse = float(np.sqrt(np.mean((flat - true) ** 2)))
    axis.set_title(f"Predicted and true: r {r:.3f}, RMSE {rmse:.3g}")
    limits = (low - margin, high + margin)
    axis.set(xlabel="true", ylabel="predicted", xlim=limits, ylim=limits)
    axis.set_aspect("equal")
    return figure


def _roc_curve(shares: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(false positive rate, true positive rate) at each threshold; rows of the same score step together."""
    import numpy as np

    order = np.argsort(-shares, kind="stable")
    last = np.append(np.flatnonzero(np.diff(shares[order])), len(order) - 1)
    hits = np.cumsum(truth[order])[last]
    alarms = last + 1 - hits
    return np.append(0, alarms) / max(1, alarms[-1]), np.append(0, hits) / max(1, hits[-1])
