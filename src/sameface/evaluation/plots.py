"""Pictures of an evaluation: cumulative errors, error by yaw, boxes per person, ROC curves. PNG, by matplotlib."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sameface.core.files import write_file

__all__ = ["boxes", "cumulative", "error_by_yaw", "roc"]

SIZE, DOTS_PER_INCH = (6.4, 4.4), 120
"""inches; px per inch"""
YAW_BIN = 15
"""degrees; width of the bins whose medians are drawn"""
MOST_PERSONS = 30
"""boxes in one picture: those of the persons with most cases"""
TAIL = 0.98
"""the share of errors that a picture of cumulative errors shows"""


def cumulative(path: Path, errors: Float[np.ndarray, " N"], label: str, title: str = "") -> None:
    """The cumulative error distribution: F(x) = share of all cases with error ≤ x; inf for cases that failed."""
    good = np.sort(errors[np.isfinite(errors)])
    if not len(good):
        raise ValueError("a picture of cumulative errors needs at least one finite error")
    figure, axes = _figure(title)
    axes.step(np.concatenate([[0.0], good]), np.arange(len(good) + 1) / len(errors), where="post")
    axes.set(xlabel=label, ylabel="share of the cases", ylim=(0, 1), xlim=(0, max(np.quantile(good, TAIL), 1e-9)))
    _write(figure, path)


def error_by_yaw(
    path: Path, yaw: Float[np.ndarray, " N"], errors: Float[np.ndarray, " N"], label: str, title: str = ""
) -> None:
    """Each case's error over its yaw (degrees), and the median of each bin of 15°."""
    figure, axes = _figure(title)
    axes.plot(yaw, errors, ".", markersize=3, alpha=0.4)
    number = np.floor(yaw / YAW_BIN)
    middles = [YAW_BIN * (k + 0.5) for k in np.unique(number)]
    axes.plot(middles, [np.median(errors[number == k]) for k in np.unique(number)], "o-", label="median of 15°")
    axes.set(xlabel="yaw, degrees", ylabel=label, ylim=(0, max(np.quantile(errors, TAIL) * 1.1, 1e-9)))
    axes.legend()
    _write(figure, path)


def boxes(path: Path, groups: Mapping[str, Sequence[float]], label: str, title: str = "") -> None:
    """One box per person: median, quartiles, and whiskers to the farthest case within 1.5 times their distance.

    Of more than 30 persons, the 30 with most cases, in the order of their medians.
    """
    chosen = sorted(groups, key=lambda name: (-len(groups[name]), name))[:MOST_PERSONS]
    chosen.sort(key=lambda name: float(np.median(groups[name])))
    more = f"{len(chosen)} of {len(groups)} persons" if len(chosen) < len(groups) else f"{len(groups)} persons"
    figure, axes = _figure(f"{title}: {more}" if title else more)
    axes.boxplot([list(groups[name]) for name in chosen], tick_labels=chosen, flierprops={"markersize": 2})
    axes.tick_params(axis="x", rotation=90, labelsize=7)
    axes.set(ylabel=label)
    _write(figure, path)


def roc(
    path: Path,
    curves: Mapping[str, tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]],
    title: str = "",
) -> None:
    """True accepts over false accepts, one line per score; the axis of false accepts is logarithmic."""
    figure, axes = _figure(title)
    lowest = min((float(x[x > 0].min()) for x, _ in curves.values() if (x > 0).any()), default=1e-3)
    for name, (x, y) in curves.items():
        axes.plot(np.maximum(x, lowest), y, label=name)
    axes.set(xscale="log", xlim=(lowest, 1), ylim=(0, 1), xlabel="false accept rate", ylabel="true accept rate")
    axes.legend(loc="lower right", fontsize=8)
    _write(figure, path)


def _figure(title: str) -> tuple[Any, Any]:
    """A figure that belongs to nobody's screen and leaves matplotlib's global state alone."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)
    return figure, axes


def _write(figure: Any, path: Path) -> None:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_file(path, buffer.getvalue())
