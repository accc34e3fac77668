"""Scaling of search and indexing from ten thousand to ten million clips: table and plot.

    python benchmarks/growth.py --folder F [--rows 10000 --rows 100000 ...]

Runs benchmarks/scale.py for each size that has no results yet. Writes F/growth.md, and F/growth.png
if matplotlib is installed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import machine

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, action="append", help=f"default: {SIZES}")
    parser.add_argument("--recall", default="0.99")
    parser.add_argument("--queries", default="400", help="with a warm page cache")
    args = parser.parse_args()
    sizes = args.rows or list(SIZES)
    for rows in sizes:
        words = [sys.executable, str(Path(__file__).with_name("scale.py"))]
        words += ["--folder", str(args.folder), "--rows", str(rows), "--recall", args.recall]
        words += ["--queries", args.queries]
        subprocess.run(words, check=True, stdout=sys.stderr)
    rows = [figures(args.folder / str(size), size) for size in sizes]
    (args.folder / "growth.md").write_text(table(rows))
    print((args.folder / "growth.md").read_text())
    plot(rows, args.folder / "growth.png")


def figures(folder: Path, rows: int) -> dict[str, Any]:
    """Read the results of one size."""
    f = {p.stem: json.loads(p.read_text()) for p in folder.glob("*.json")}
    return {
        "clips": rows,
        "search": f["index"]["kind"],
        "written, us per clip": 1e6 * f["write"]["seconds"] / rows,
        "indexed, us per clip": 1e6 * f["index"]["seconds"] / rows,
        "search, ms": f["warm"]["search_ms"]["p50"],
        "in batches, ms": f["batch"]["many_ms_a_query"],
        "recall@10": f["recall"]["recall_at_10"][0],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Format the results as Markdown."""
    names = list(rows[0])
    lines = [machine(), "", "| " + " | ".join(names) + " |", "|" + "--:|" * len(names)]
    for row in rows:
        cells = [v if isinstance(v, str) else f"{v:,.4g}" for v in row.values()]
        lines.append("| " + " | ".join([f"{row['clips']:,}", *cells[1:]]) + " |")
    return "\n".join([*lines, ""])


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Plot cost against size, on logarithmic axes."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    clips = [row["clips"] for row in rows]
    for name in ("search, ms", "in batches, ms"):
        left.loglog(clips, [row[name] for row in rows], "o-", label=name.removesuffix(", ms"))
    for name in ("written, us per clip", "indexed, us per clip"):
        right.loglog(clips, [row[name] for row in rows], "o-", label=name.partition(",")[0])
    left.set(xlabel="clips", ylabel="ms per query")
    right.set(xlabel="clips", ylabel="µs per clip")
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
