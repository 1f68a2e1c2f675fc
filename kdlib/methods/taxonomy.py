"""Where a method stands among the others: what it teaches, which views it trusts, and how sure its formula is."""

from typing import Literal

from kdlib.records import Record

Task = Literal["classification", "detection", "retrieval", "translation"]
Knowledge = Literal["answer", "feature", "relation", "position"]
Sees = Literal[
    "both the same",
    "both, answers crossed",
    "both, answers with noise",
    "both, the student less of them",
    "student alone",
    "teacher alone",
]
Chooser = Literal["none", "energy", "cosine", "confidence", "cluster", "attention", "gradient", "rank"]
Labels = Literal[
    "the same", "switched on or off", "none on turned ones", "the image itself", "class and turn", "none"
]  # fmt: skip
Status = Literal["verified", "inspired by"]


class Taxonomy(Record):
    """The facts of a method that its code does not say. All but the task must be given; ValueError for other words.

    >>> Taxonomy(
    ...     knowledge=("answer",), sees="both the same", chosen_by="cosine", labels="the same", status="verified"
    ... ).task
    'classification'
    """

    #: what the student is taught of the teacher; empty where there is no teacher to learn from
    knowledge: tuple[Knowledge, ...]
    #: who is shown the views
    sees: Sees
    #: what chooses or weighs views; "rank": of the right answer among the teacher's
    chosen_by: Chooser
    #: of augmented views
    labels: Labels
    #: "verified": from the paper or a program of its authors, "inspired by": a reconstruction
    status: Status
    #: what the networks are for
    task: Task = "classification"
