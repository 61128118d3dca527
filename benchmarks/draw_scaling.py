"""Draws benchmarks/results/scaling.png from speed.json beside it: seconds of a warm logit fit against n, p and data sets.

python benchmarks/draw_scaling.py
"""

import json
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).parent / "results"
PANELS = (
    (r"n = ([\d,]+), p = 10$", "rows (p = 10)", 1.0, "in proportion to n"),
    (r"n = 20,000, p = (\d+)$", "coefficients (n = 20,000)", 2.0, "in proportion to p²"),
    (r"([\d,]+) data sets", "data sets of 100 rows (p = 4)", 1.0, "in proportion"),
)


def main() -> None:
    """Three panels, logarithmic axes, ranges as bars; a dashed line through the last point shows what the work grows with."""
    rows = [r for r in json.loads((RESULTS / "speed.json").read_text())["rows"] if r["question"].startswith("scaling")]
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True, layout="constrained")
    for axis, (pattern, label, power, said) in zip(axes, PANELS, strict=True):
        found = [(int(m[1].replace(",", "")), r) for r in rows if (m := re.search(pattern, r["tool"]))]
        x = [size for size, _ in found]
        y = [r["median"] for _, r in found]
        spread = [[r["median"] - r["least"] for _, r in found], [r["most"] - r["median"] for _, r in found]]
        axis.errorbar(x, y, yerr=spread, fmt="o-", color="#1f4e79", capsize=2, markersize=4)
        axis.plot(x, [y[-1] * (size / x[-1]) ** power for size in x], "--", color="#8c959f", linewidth=1, label=said)
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.set_ylim(1e-3, None)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, loc="upper left", fontsize=9)
    axes[0].set_ylabel("seconds")
    figure.savefig(RESULTS / "scaling.png", dpi=110)


if __name__ == "__main__":
    main()
