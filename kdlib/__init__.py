"""kdlib: what does data augmentation do in knowledge distillation?

The module behind the notebooks. `kdlib.start` opens a chapter; everything else is imported from its own file. Each room
imports only those below it:

- chapters: one module or folder for each notebook: its arms, tables and figures; the claims and their verdicts
- show: figures and explorers that chapters share
- study: arms, contrasts, intervals and verdicts: comparisons as data
- lab: how a run is said, made, measured and kept
- methods: one file for each; a new one is entered in methods/method.py. CCD is in ccd.py, on top of kd.py
- data: image sets, and samples of them
- models: networks, public checkpoints
- views: what a network is shown. JDA's rule is in jda.py, its operations in ops.py
- records, randomness, files, choices: what all of them rest on

A program of your own needs views and methods alone, see `kdlib.views.transforms` and `kdlib.methods.ccd`.
"""


def start(name, namespace, cells=()):
    """See `kdlib.notebook.start`, which is imported on the first call."""
    from kdlib.notebook import start as open_chapter

    return open_chapter(name, namespace, cells)
