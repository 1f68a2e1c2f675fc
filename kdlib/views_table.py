"""What a teacher says on views, as a table."""

from collections.abc import Mapping

import pandas as pd

VIEWS = ("original", "augmented")


def on_views(measured: Mapping[str, Mapping | None]) -> pd.DataFrame:
    """One row per view policy and split, from stored measurements: each pair is "original → augmented view".

    cosine: mean cosine between the teacher's logits on x and on the augmented view, and between two plain crops of x.
    """
    rows = []
    for name, metrics in measured.items():
        for split in ("train", "test"):
            row = {"views": name, "images": split}
            rows.append(row | (_row(metrics, split) if metrics else {"top-1 %": "not measured"}))
    return pd.DataFrame(rows).set_index(["views", "images"]).fillna("")


def _row(metrics: Mapping, split: str) -> dict[str, str]:
    def pair(name: str, digits: int) -> str:
        return " → ".join(f"{metrics[f'{split}_{view}_{name}']:.{digits}f}" for view in VIEWS)

    return {
        "top-1 %": pair("top1", 1),
        "ECE": pair("ece", 3),
        "entropy, nats": pair("entropy", 2),
        "same class %": f"{metrics[f'{split}_agreement']:.1f}",
        "cosine": f"{metrics[f'{split}_w_mean'] - 1:.3f}",
        "cosine of two crops": f"{metrics[f'{split}_floor_mean'] - 1:.3f}",
    }
