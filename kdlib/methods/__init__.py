"""Distillation methods: what the student's and the teacher's outputs on the views of a batch are turned into.

One file for each: its loss as a pure function of logits and features, its options, what it adds to the networks in
training, and its entry. Views come from the run's view policy: any policy that makes enough views goes under any
method.
"""

from kdlib.methods.base import Batch, Definition, Loss, NoOptions, Step, Term, soft_term, total
from kdlib.methods.kd import KDOptions
from kdlib.methods.method import (
    METHODS,
    Method,
    check_method,
    create_method,
    find_method,
    method_options,
    new_head,
    new_memory,
    policies_of,
    survey_of,
)
from kdlib.methods.taxonomy import Taxonomy

__all__ = [
    "METHODS",
    "Batch",
    "Definition",
    "KDOptions",
    "Loss",
    "Method",
    "NoOptions",
    "Step",
    "Taxonomy",
    "Term",
    "check_method",
    "create_method",
    "find_method",
    "method_options",
    "new_head",
    "new_memory",
    "policies_of",
    "soft_term",
    "survey_of",
    "total",
]
