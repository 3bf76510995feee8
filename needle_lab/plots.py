"""Pictures of training, of what a model does and of how fast it is.  Each function draws with matplotlib -> the axes.

Colours are the eight of Okabe and Ito, which stay apart for every kind of colour vision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .core.modes import no_grad
from .core.tensor import Tensor
from .data.dataset import ArrayDataset
from .errors import ArgumentError, ShapeError
from .extras import pyplot
from .training import History

if TYPE_CHECKING:
    from .analysis import LayerCost, Roofline

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
FAINT = "#9bb8cc"


def show_images(images: np.ndarray | Tensor, titles: Sequence[Any] = (), columns: int = 8, size: float = 1.1,
                suptitle: str = "") -> np.ndarray:
    """A grid of images (N, C, H, W) or (N, H, W), C being 1 or 3, in grey or colour.  -> the axes, (rows, columns).

    titles: one above each. Each grey image has its own scale from black (its least value) to white.
    """
    plt, images = pyplot(), np.asarray(images)
    if images.ndim == 4 and images.shape[1] in (1, 3):
        images = images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)
    elif images.ndim != 3:
        raise ShapeError(f"show_images: images (N, H, W) or (N, 1 or 3, H, W) are needed, got {images.shape}")
    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    height = size * (1.25 if len(titles) else 1.0)
    figure, axes = plt.subplots(rows, columns, figsize=(size * columns, height * rows + 0.35 * bool(suptitle)),
                                squeeze=False, layout="constrained")
    for i, ax in enumerate(axes.flat):
        ax.axis("off")
        if i < len(images):
            ax.imshow(images[i], cmap="gray")
            ax.set_title(str(titles[i]) if i < len(titles) else "", fontsize=9)
    figure.suptitle(suptitle, fontsize=11)
    return axes


def plot_history(history: History, axes: Any = None, goal: float | None = None) -> np.ndarray:
    """The loss of every step and of every epoch, and on the test set; beside it the metrics, if any, and the goal."""
    panels = 1 + bool(history.metrics)
    if axes is None:
        axes = pyplot().subplots(1, panels, figsize=(4.6 * panels, 2.8), squeeze=False, layout="constrained")[1][0]
    per_epoch = len(history.batch_loss) / max(len(history.loss), 1)
    ends = np.arange(1, len(history.loss) + 1)
    ax = axes[0]
    steps = np.arange(1, len(history.batch_loss) + 1)
    ax.plot(steps / per_epoch, history.batch_loss, color=FAINT, lw=0.8, label="each step")
    ax.plot(ends - 0.5, history.loss, "o-", color=COLOURS[0], ms=4, label="mean of the epoch")
    if history.test_loss:
        ax.plot(_last(ends, history.test_loss), history.test_loss, "s-", color=COLOURS[1], ms=3, label="on the test set")
    ax.set(xlabel="epoch", ylabel="loss", yscale="log" if min(history.batch_loss + history.test_loss) > 0 else "linear")
    ax.legend(frameon=False, fontsize=8)
    if history.metrics and len(axes) > 1:
        for i, (name, values) in enumerate(history.metrics.items()):
            axes[1].plot(_last(ends, values), np.multiply(values, 100), "o-", color=COLOURS[(2 + i) % len(COLOURS)], ms=4,
                         label=name)
        names = list(history.metrics)
        axes[1].set(xlabel="epoch", ylabel=f"test {names[0]} in %" if len(names) == 1 else "on the test set, in %")
        if len(names) > 1:
            axes[1].legend(frameon=False, fontsize=8)
        if goal is not None:
            axes[1].axhline(100 * goal, color=COLOURS[5], lw=1, ls="--")
            axes[1].annotate(f"goal {goal:.0%}", (1, 100 * goal), (0, -2), axes[1].get_yaxis_transform(),
                             "offset points", color=COLOURS[5], fontsize=8, ha="right", va="top")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return axes


def _last(ends: np.ndarray, values: Sequence[float]) -> np.ndarray:
    """The newest epochs, as many as there are values: an earlier part of the run may have measured nothing."""
    return ends[len(ends) - len(values):]


class LiveLoss:
    """A picture that grows while the model learns: `fit(..., after_epoch=LiveLoss())`.

    In a notebook it is redrawn in place below the cell; elsewhere nothing is shown, and `figure` holds the last state.
    goal: an accuracy to be reached, drawn as a line.
    """

    def __init__(self, goal: float | None = None):
        self.goal = goal
        self.figure: Any = None
        self._shown: Any = None

    def __call__(self, history: History) -> None:
        pyplot()
        from matplotlib.figure import Figure

        panels = 1 + bool(history.metrics)
        # No pyplot: it would show the picture a second time when the cell ends.
        figure = self.figure = Figure(figsize=(4.6 * panels, 2.8), layout="constrained")
        plot_history(history, figure.subplots(1, panels, squeeze=False)[0], self.goal)
        shell = _notebook()
        if shell is None:
            return
        if self._shown is None:
            self._shown = shell.display(figure, display_id=True)
        else:
            self._shown.update(figure)


def show_confusion(matrix: np.ndarray, classes: Sequence[str] = (), ax: Any = None) -> Any:
    """A confusion matrix: rows are true classes, columns what they were taken for; mistakes stand out in colour."""
    n = len(matrix)
    names = list(classes) or [str(i) for i in range(n)]
    if np.shape(matrix) != (n, n) or len(names) != n:
        raise ShapeError(f"show_confusion: a square matrix and one name a class are needed, got {np.shape(matrix)} and "
                         f"{len(names)} names")
    ax = ax or pyplot().subplots(figsize=(0.42 * n + 1.2, 0.42 * n + 1), layout="constrained")[1]
    mistakes = np.where(np.eye(n, dtype=bool), 0, matrix)
    ax.imshow(mistakes, cmap="Oranges", vmin=0, vmax=max(3, mistakes.max(initial=0)))
    for i in range(n):
        ax.add_patch(pyplot().Rectangle((i - 0.5, i - 0.5), 1, 1, color=COLOURS[4], alpha=0.35, lw=0))
    for i, j in zip(*np.nonzero(matrix), strict=True):
        ax.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=9, color="black" if i == j else "#7f2704")
    ax.set(xlabel="taken for", ylabel="is", xticks=range(n), yticks=range(n), xticklabels=names, yticklabels=names)
    if max(map(len, names)) > 2:
        ax.tick_params("x", rotation=90)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def show_decisions(model: Callable[[Tensor], Tensor], dataset: ArrayDataset, ax: Any = None,
                   resolution: int = 200) -> Any:
    """The plane, coloured by what a model with two inputs takes each place for, and the points of the dataset on it.

    model: (N, 2) -> scores (N, classes). Where two colours fade into each other it is undecided.
    """
    points, labels = dataset.arrays[:2]
    if points.ndim != 2 or points.shape[1] != 2:
        raise ShapeError(f"show_decisions: points (N, 2) are needed, got {points.shape}")
    if labels.max(initial=0) >= len(COLOURS):
        raise ArgumentError(f"show_decisions: at most {len(COLOURS)} classes can be told apart in a picture")
    ax = ax or pyplot().subplots(figsize=(4.2, 4.2), layout="constrained")[1]
    reach = 1.15 * np.abs(points).max()
    places = np.linspace(-reach, reach, resolution, dtype=np.float32)
    grid = np.stack(np.meshgrid(places, places), -1).reshape(-1, 2)
    with no_grad():
        p = model(Tensor(grid)).softmax(axis=-1).numpy()
    colours = np.array([[int(c[i:i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLOURS])[:p.shape[1]]
    mixed = 0.35 + 0.65 * (p @ colours)                            # paler than the points
    ax.imshow(mixed.reshape(resolution, resolution, 3), extent=(-reach, reach) * 2, origin="lower",
              interpolation="bilinear")
    for k in range(int(labels.max(initial=0)) + 1):
        ax.scatter(*points[labels == k].T, s=12, color=COLOURS[k], edgecolor="white", lw=0.4)
    ax.set(xticks=[], yticks=[])
    return ax


FAR_APART = 50           # times whose bars would be too short to see beside one another


def show_times(times: Mapping[str, float], ax: Any = None) -> Any:
    """A bar for each time in seconds, with its value, the first on top; logarithmic where they are far apart."""
    from .analysis import Seconds

    if not times or min(times.values()) <= 0:
        raise ArgumentError(f"show_times: at least one time, all above 0, is needed, got {dict(times)}")
    ax = ax or pyplot().subplots(figsize=(7.5, 0.36 * len(times) + 0.7), layout="constrained")[1]
    names, values = list(times), list(times.values())
    ax.barh(range(len(names)), values, color=COLOURS[0], height=0.66)
    for i, value in enumerate(values):
        ax.annotate(str(Seconds(value)), (value, i), (4, 0), textcoords="offset points", va="center", fontsize=9)
    if max(values) > FAR_APART * min(values):
        low, high = np.log10([min(values), max(values)])
        ax.set(xscale="log", xlim=(10 ** (low - 0.7), 10 ** (high + 0.12 * (high - low) + 0.3)),
               xlabel="seconds (logarithmic: each step is 10 times as long)")
    else:
        ax.set(xlim=(0, 1.15 * max(values)), xlabel="seconds")
    ax.set(yticks=range(len(names)), yticklabels=names)
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    return ax


MARKERS = "osD^vPX*"


def show_roofline(roofline: Roofline, layers: Sequence[LayerCost] = (), ax: Any = None) -> Any:
    """The roof of a machine, and layers below it: operations a second against operations a byte, both logarithmic.

    Layers of one kind have one colour and one marker. A strategy that needs fewer operations than were counted may stand
    above the roof.
    """
    ax = ax or pyplot().subplots(figsize=(8, 4.6), layout="constrained")[1]
    seen = [layer.intensity for layer in layers] or [roofline.ridge]
    x = np.geomspace(min(0.1, min(seen) / 2, roofline.ridge / 10), max(300, 2 * max(seen), 10 * roofline.ridge), 200)
    ax.loglog(x, roofline.roof(x), color="black", lw=1.8)
    near = x[x * roofline.cache < roofline.peak]
    ax.loglog(near, near * roofline.cache, color="#777777", lw=1.2, ls="--")
    kinds = list(dict.fromkeys(layer.kind for layer in sorted(layers, key=lambda layer: -layer.rate)))
    for i, kind in enumerate(kinds):
        some = [layer for layer in layers if layer.kind == kind]
        ax.plot([layer.intensity for layer in some], [layer.rate for layer in some], MARKERS[i % len(MARKERS)], ms=7,
                color=COLOURS[i % len(COLOURS)], markeredgecolor="black", markeredgewidth=0.5, ls="", label=kind)
    low = min([layer.rate for layer in layers] + [float(roofline.roof(x[0]))])
    high = max([layer.rate for layer in layers] + [roofline.peak])
    ax.set(xlabel="operations a byte", ylabel="operations a second", xlim=(x[0], x[-1]), ylim=(low / 2, high * 3))
    speeds = (f"flat: arithmetic, {roofline.peak / 1e9:.0f} Gflop/s\nslope: memory, {roofline.memory / 1e9:.0f} GB/s\n"
              f"dashed: cache, {roofline.cache / 1e9:.0f} GB/s")
    ax.annotate(speeds, (0, 1), (8, -4), "axes fraction", "offset points", fontsize=9, va="top")
    ax.plot([roofline.ridge] * 2, [low / 2, roofline.peak], color="#777777", lw=0.8, ls=":")
    ax.annotate(f"ridge: {roofline.ridge:.1f}", (roofline.ridge, low / 2), (4, 6), fontsize=9, textcoords="offset points")
    if kinds:
        ax.legend(frameon=False, fontsize=9, loc="lower right")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


OURS = {"numpy": "needle_lab", "fast": "needle_lab with [fast]", "plan": "needle_lab, ONNX plan"}


def show_benchmarks(run: Mapping[str, Any], ax: Any = None) -> Any:
    """What `make bench` left in results.json: time over PyTorch's for each workload and number of threads.

    A dot is a median, its line goes from quartile to quartile; left of the dashed line is faster than PyTorch. A black
    stroke is what plain numpy aims at. The scale is logarithmic: half and twice are equally far from 1.
    """
    rows = [row for row in run["rows"] if len(row["contenders"]) > 1]
    if not rows:
        raise ArgumentError("show_benchmarks: the run has no workload in which anything stands beside PyTorch")
    ax = ax or pyplot().subplots(figsize=(8.5, 0.34 * len(rows) + 1.2), layout="constrained")[1]
    names = list(dict.fromkeys(name for row in rows for name in row["contenders"] if name != "torch"))
    names.sort(key=lambda name: name not in OURS)
    for k, name in enumerate(names):
        at = [i for i, row in enumerate(rows) if name in row["contenders"]]
        ratios = np.array([rows[i]["contenders"][name]["ratio"] for i in at])
        heights = np.array(at) + 0.5 * ((k + 0.5) / len(names) - 0.5)
        label = OURS.get(name, name)
        colour = COLOURS[k % len(COLOURS)]
        ax.hlines(heights, ratios[:, 1], ratios[:, 2], color=colour, lw=1.5)
        ax.plot(ratios[:, 0], heights, MARKERS[k % len(MARKERS)], ms=6, color=colour, label=label, markeredgecolor="black",
                markeredgewidth=0.4)
    aims = [(row["aim"][0], i) for i, row in enumerate(rows) if row.get("aim") and row["aim"][0] is not None]
    if aims:
        ax.vlines([a for a, _ in aims], [i - 0.36 for _, i in aims], [i + 0.36 for _, i in aims], color="black", lw=1.2,
                  label="aim for numpy")
    ax.axvline(1, color="#777777", lw=1, ls="--")
    titles = [f"{row['title'].partition(':')[0]}, {row['threads']} thread{'s' * (row['threads'] > 1)}" for row in rows]
    ax.set(xscale="log", xlabel="time / PyTorch's time", yticks=range(len(rows)), ylim=(len(rows) - 0.4, -0.6))
    ax.set_yticklabels(titles, fontsize=8)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.grid(axis="y", color="#e5e5e5", lw=0.6)
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.3, 1), ncols=3)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _notebook() -> Any:
    """IPython.display inside a notebook, else None."""
    import sys

    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython import display

    return display
