"""Labels alone: the zero point of all distillation."""

from kdlib.methods.base import Batch, Definition, Loss, NoOptions, Term
from kdlib.methods.taxonomy import Taxonomy
from kdlib.records import Record


def cross_entropy(batch: Batch, options: Record) -> Loss:
    """CE(z_s, y) over all views."""
    return {"ce": Term(batch.cross_entropy, 1.0)}, {}


CE = Definition(
    loss=cross_entropy,
    options=NoOptions,
    source="cross-entropy on the labels, no teacher",
    formula=r"\mathrm{CE}",
    needs_teacher=False,
    mixes=True,
    taxonomy=Taxonomy(knowledge=(), sees="student alone", chosen_by="none", labels="the same", status="verified"),
)
