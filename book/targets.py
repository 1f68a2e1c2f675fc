"""Makes plain Markdown links reach labels and citations: an extension of Sphinx, named in _config.yml.

Chapters link as `[the rule](../book/how_to_read.md#verdict-rule)`, which JupyterLab follows too. MyST finds headings of
another page that way; here it learns of the page's labels, and of the works in the bibliography by their keys.
"""

from typing import Any


def setup(app: Any) -> dict[str, bool]:
    """Connects the function below to the event after all pages are read, and after the bibliography has its entries."""
    app.connect("env-updated", learn, priority=900)
    return {"parallel_read_safe": True}


def learn(app: Any, env: Any) -> list[str]:
    """Puts labels and citations where MyST looks a fragment up: fragment -> (line, id in the page, title)."""
    labels = [(page, name, place) for name, (page, place, _) in env.domains["std"].labels.items()]
    works = [(c.bibliography_key.docname, c.key, c.citation_id) for c in env.domains["cite"].citations]
    for page, name, place in (*labels, *works):
        if page in env.metadata:  # not the pages that Sphinx adds itself, such as the index
            env.metadata[page].setdefault("myst_slugs", {}).setdefault(name, (0, place, name))
    return []  # no page must be read again
