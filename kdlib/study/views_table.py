"""What a teacher says on views, as a table."""

from collections.abc import Mapping

import pandas as pd

VIEWS = ("original", "augmented")


def on_views(measured: Mapping[str, Mapping | None], of: str = "views") -> pd.DataFrame:
    """One row per measurement and split, from stored ones: each pair is "original → augmented view".

    of: what the measurements differ in, such as the policy of the views.
    cosine: mean cosine between the teacher's logits on x and on the augmented view, and between two plain crops of x.
    """
    rows = []
    for name, metrics in measured.items():
        for split in ("train", "test"):
            row = {of: name, "images": split}
            rows.append(row | (_row(metrics, split) if metrics else {"top-1 %": "not measured"}))
    return pd.DataFrame(rows).set_index([of, "images"]).fillna("")


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
