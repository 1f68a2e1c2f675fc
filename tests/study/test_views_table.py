"""The table of what a teacher says on views."""

from kdlib.study.views_table import on_views


def test_each_split_has_a_row_and_a_cosine_is_w_less_one():
    metrics = {}
    for split, top1 in (("train", 99.0), ("test", 72.0)):
        metrics |= {f"{split}_original_{n}": v for n, v in {"top1": top1, "ece": 0.1, "entropy": 0.5}.items()}
        metrics |= {f"{split}_augmented_{n}": v for n, v in {"top1": top1 - 20, "ece": 0.2, "entropy": 1.5}.items()}
        metrics |= {f"{split}_agreement": 60.0, f"{split}_w_mean": 1.75, f"{split}_floor_mean": 1.95}
    table = on_views({"JDA": metrics, "rot2": None})
    assert list(table.index) == [(v, s) for v in ("JDA", "rot2") for s in ("train", "test")]
    row = table.loc[("JDA", "test")]
    assert row["top-1 %"] == "72.0 → 52.0" and row["entropy, nats"] == "0.50 → 1.50" and row["ECE"] == "0.100 → 0.200"
    assert row["cosine"] == "0.750" and row["cosine of two crops"] == "0.950"
    assert table.index.names == ["views", "images"]
    assert on_views({"mine": metrics}, "teacher").index.names == ["teacher", "images"]
    assert table.loc[("rot2", "train")].tolist() == ["not measured"] + [""] * 5
