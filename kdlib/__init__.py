"""kdlib: what does data augmentation do in knowledge distillation?

The module behind the notebooks. `kdlib.start` opens a chapter; everything else is imported from its own file.
"""


def start(name, namespace, cells=()):
    """See `kdlib.notebook.start`, which is imported on the first call."""
    from kdlib.notebook import start as open_chapter

    return open_chapter(name, namespace, cells)
