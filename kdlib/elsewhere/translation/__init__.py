"""Machine translation: what another spelling of a sentence does in distillation.

Files: parallel (text by name), grammar and corpora (where it is from), packages (how it is fetched), spelling, network,
decoding, losses, scores, batches, spec, training.
"""

from kdlib.elsewhere.translation import spec, training

#: What the lab asks of a task, see `kdlib.lab.tasks`.
SPEC, learner = spec.TranslationSpec, training.Translation
