"""The benchmark as a whole: which ratios, their targets, and what is written for machines and for readers."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from kdlib import bench
from kdlib.cache import replacing
from kdlib.runs import provenance

THREADS = 2  # of everything that is one run on the whole machine


def measure(rounds: int) -> dict[str, Any]:
    """{"ratios": [{name, arms, ratio, target, higher}], "batch_sizes", "provenance"}, measured now.

    rounds: of each comparison, after one that is not counted.
    """
    torch.set_num_threads(1)
    ratios = [_ratio("JDA views, one core: kdlib against PIL", bench.augmentation(rounds), "kdlib", "PIL", 8.0)]
    sizes = bench.batch_sizes(rounds)
    torch.set_num_threads(THREADS)
    ratios += [*_steps(rounds)]
    parallel = bench.parallel_runs(rounds)
    ratios.append(_ratio("two ResNet-8 runs: side by side against in turn", parallel, *parallel, 1.2))
    used = bench.memory()
    more = (used["at most in a run"] - used["after import"]) / 1000
    ratios.append(
        {"name": "memory of a run above import, GB", "arms": used, "ratio": more, "target": 1.5, "higher": False}
    )
    return {"ratios": ratios, "batch_sizes": sizes, "provenance": provenance(bench.run_of("wrn"), None)}


def _steps(rounds: int) -> Iterator[dict[str, Any]]:
    """Whole steps of the pair of wide networks, and how much of the machine's rate of matrix products they reach."""
    found = bench.whole_steps("wrn", rounds)
    yield _ratio("whole step, WRN-40-2 to WRN-16-2: kdlib against plain", found, "kdlib", "plain", 2.6)
    yield _ratio("whole step against networks and optimiser alone", found, "kdlib", "bare", 0.92)
    products = bench.matrix_products(rounds)
    precision = bench.run_of("wrn").machine.precision
    reached = found["kdlib"]["median"] * bench.flops_of_a_pair("wrn")
    arms = {"whole step": {"median": reached}, **products}
    top = products.get(precision, products["float32"])["median"]
    yield {
        "name": f"FLOP/s of the whole step against {precision} matrix products", "arms": arms, "ratio": reached / top,
        "target": 0.78, "higher": True,
    }  # fmt: skip


def _ratio(name: str, arms: bench.Rates, first: str, second: str, target: float) -> dict[str, Any]:
    value = arms[first]["median"] / arms[second]["median"]
    return {"name": name, "arms": arms, "ratio": value, "target": target, "higher": True}


def write(found: Mapping[str, Any], path: Path) -> None:
    """The measurements as JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n")


def table(found: Mapping[str, Any]) -> pd.DataFrame:
    """One row per ratio: its value, the target, whether it is met, and the rates behind it with their quartiles."""
    rows = []
    for row in found["ratios"]:
        met = row["ratio"] >= row["target"] if row["higher"] else row["ratio"] <= row["target"]
        rows.append(
            {
                "comparison": row["name"],
                "measured": f"{row['ratio']:.2f}",
                "target": f"{'at least' if row['higher'] else 'at most'} {row['target']:g}",
                "met": "yes" if met else "no",
                "rates": "; ".join(f"{arm} {_spread(values)}" for arm, values in row["arms"].items()),
            }
        )
    return pd.DataFrame(rows).set_index("comparison").rename_axis(None)


def _spread(values: Any) -> str:
    if not isinstance(values, Mapping):
        return f"{values:,.0f}"
    median, *quartiles = (f"{values[k]:,.4g}" for k in ("median", "first_quartile", "third_quartile") if k in values)
    return f"{median} ({' to '.join(quartiles)})" if quartiles else median
