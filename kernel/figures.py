"""The pictures of a run: learning curve, confusion matrix, ROC, calibration, and predicted against true numbers.

Drawn at the end by the tracker, from the event stream and from what rank 0 left of the last evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import charts
from .events import FILE, read_events

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from .contracts import Problem

EVALUATION = Path("log") / "eval.npz"
FOLDER = Path("log") / "figures"


def save_evaluation(
    path: Path, scores: np.ndarray, labels: np.ndarray, class_names: Sequence[str], problem: Problem
) -> None:
    """Leaves an evaluation for the pictures, by rename.

    Args:
        path: EVALUATION in the run folder.
        scores: [rows, classes] raw logits; [rows] or [rows, values] in regression.
        labels: [rows] class numbers or numbers; [rows, classes] 0 or 1 for multi-label, numbers for several values.
        class_names: in index order; may be empty.
        problem: as in `contracts.Problem`; text has no such pictures.
    """
    import numpy as np

    aside = path.with_name(f".{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside.open("wb") as file:
        np.savez_compressed(file, scores=scores, labels=labels, class_names=np.array(class_names, str), problem=problem)
    aside.replace(path)


def draw(folder: Path) -> Path:
    """Draws what the run folder has material for; gives the folder of the PNG files."""
    import matplotlib as mpl

    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    style: Any = charts.STYLE  # matplotlib types the keys as literals
    with mpl.rc_context(style):
        for name, figure in {**_of_training(folder), **_of_evaluation(folder)}.items():
            figure.savefig(place / f"{name}.png")
    return place


def _of_training(folder: Path) -> dict[str, Figure]:
    losses: dict[int, float] = {}
    scores: dict[str, dict[int, float]] = {}
    best = 0
    for event in read_events(folder / FILE):  # of steps that a resumed attempt did again, the last counts
        if event.HasField("progress") and event.progress.stage == "train" and "loss" in event.progress.values:
            losses[event.progress.step] = event.progress.values["loss"]
        elif event.HasField("scored") and event.scored.split == "eval":
            best = event.scored.step if event.scored.best else best
            for name, value in event.scored.scores.items():
                scores.setdefault(name.removeprefix("eval_"), {})[event.scored.step] = value
    return {"learning_curve": _learning_curve(losses, scores, best)} if losses else {}


def _learning_curve(losses: dict[int, float], scores: dict[str, dict[int, float]], best: int) -> Figure:
    eval_loss = scores.pop("loss", {})
    shares = [name for name in sorted(scores) if _is_share(scores[name])]
    if len(shares) > 6:  # those of single classes, such as auc_sports beside auc, would crowd the picture
        shares = [name for name in shares if not any(name.startswith(f"{other}_") for other in shares)][:6]
    others = sorted(name for name in scores if not _is_share(scores[name]))[:2]
    panels = [group for group in (shares, *([name] for name in others)) if group]
    height = 2.9 + 2.1 * len(panels)
    figure, grid = charts.canvas((6.4, height), 1 + len(panels), 1, sharex=True, squeeze=False)
    axes = grid[:, 0]
    steps = sorted(losses)
    values = [losses[step] for step in steps]
    smooth = _smoothed(values)
    axes[0].plot(steps, values, color=charts.COLOURS[0], alpha=0.3, linewidth=1)
    axes[0].plot(steps, smooth, color=charts.COLOURS[0], label="training")
    if eval_loss:
        axes[0].plot(*_by_step(eval_loss), "o-", color=charts.COLOURS[1], markersize=4, label="evaluation")
    axes[0].legend(loc="upper right")
    axes[0].set(title="Learning curve", ylabel="loss")
    for axis, names in zip(axes[1:], panels, strict=True):
        for name, colour in zip(names, charts.COLOURS[2:], strict=False):
            axis.plot(*_by_step(scores[name]), "o-", color=colour, markersize=4, label=name)
            if best in scores[name]:
                axis.plot(best, scores[name][best], "o", color="white", markeredgecolor=colour, markersize=8, mew=2)
        axis.set_ylabel(names[0] if len(names) == 1 else "score")
        if len(names) > 1:
            axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    if best and panels:
        axes[1].set_title("○ best step", fontsize=9, fontweight="normal", loc="right", pad=4)
    axes[-1].set_xlabel("step")
    return figure


def _of_evaluation(folder: Path) -> dict[str, Figure]:
    import numpy as np

    if not (folder / EVALUATION).exists():
        return {}
    with np.load(folder / EVALUATION) as file:
        scores, labels = file["scores"].astype(np.float64), file["labels"]
        problem, names = str(file["problem"]), [str(name) for name in file["class_names"]]
    if len(labels) == 0:
        return {}
    if problem == "regression":
        return {"predicted_and_true": charts.scatter(scores.reshape(len(scores), -1), labels.reshape(len(labels), -1))}
    if problem == "multi_label_classification":
        shares = _sigmoid(scores)
        truth = labels > 0.5
        named = _named(names, shares.shape[1])
        return {
            "roc": charts.roc(shares, truth, named),
            "calibration": charts.calibration(shares.ravel(), truth.ravel()),
        }
    if problem != "single_label_classification":
        return {}
    # One logit is the log odds of class 1.
    shares = np.hstack([1 - _sigmoid(scores), _sigmoid(scores)]) if scores.shape[1] == 1 else _softmax(scores)
    named = _named(names, shares.shape[1])
    labels = labels.astype(int)
    truth = labels[:, None] == np.arange(shares.shape[1])
    figures = {"confusion_matrix": charts.confusion(shares.argmax(1), labels, named)}
    if shares.shape[1] == 2:
        figures["roc"] = charts.roc(shares[:, 1:], truth[:, 1:], named[1:])
        figures["calibration"] = charts.calibration(shares[:, 1], truth[:, 1])
    else:
        figures["roc"] = charts.roc(shares, truth, named)
        figures["calibration"] = charts.calibration(shares.max(1), shares.argmax(1) == labels)
    return figures


def _is_share(values: dict[int, float]) -> bool:
    return all(-1 <= value <= 1 for value in values.values())


def _by_step(values: dict[int, float]) -> tuple[list[int], list[float]]:
    return sorted(values), [values[step] for step in sorted(values)]


def _smoothed(values: Sequence[float]) -> list[float]:
    """A running mean that forgets over about a twentieth of the curve, without a bias at its beginning."""
    keep = 1 - 1 / max(1.0, len(values) / 20)
    total = weight = 0.0
    smooth = []
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        smooth.append(total / weight)
    return smooth


def _named(names: Sequence[str], size: int) -> list[str]:
    return [names[i] if i < len(names) else str(i) for i in range(size)]


def _sigmoid(scores: np.ndarray) -> Any:
    import numpy as np

    return 0.5 * (1 + np.tanh(scores / 2))


def _softmax(scores: np.ndarray) -> Any:
    import numpy as np

    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)
