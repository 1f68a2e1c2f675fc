"""The lab inside other pages: an extension of Sphinx, named in _config.yml.

A page gets it below its first paragraph that begins with a link to the page "The lab"; in JupyterLab that paragraph is
a plain link. Its markup and scripts are those of book/lab.md, and nothing is loaded before the reader asks for it.
"""

import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes

LAB = "book/lab"
BLOCK = re.compile(r"```\{raw\} html\n(.*?)\n```", re.DOTALL)
SCRIPT = re.compile(r'<script src="([^"]+)"></script>\n?')


def setup(app: Any) -> dict[str, bool]:
    """Connects the function below to the event after the links of a page are known."""
    app.connect("doctree-resolved", embed)
    return {"parallel_read_safe": True}


def embed(app: Any, doctree: nodes.document, page: str) -> None:
    """Puts the lab below the paragraph that asks for it."""
    if page == LAB or LAB not in app.env.found_docs:
        return
    address = app.builder.get_relative_uri(page, LAB)
    asking = next((found for found in doctree.findall(nodes.paragraph) if asks(found, address)), None)
    if asking is not None:
        markup = embedded(Path(app.srcdir, f"{LAB}.md").read_text(encoding="utf-8"))
        asking.parent.insert(asking.parent.index(asking) + 1, nodes.raw("", markup, format="html"))


def asks(paragraph: nodes.paragraph, address: str) -> bool:
    """Whether a paragraph of the text itself, not of a table or a list, begins with a link to an address."""
    first = next(iter(paragraph.children), None)
    in_text = isinstance(paragraph.parent, nodes.section)
    return in_text and isinstance(first, nodes.reference) and first.get("refuri") == address


def embedded(page: str) -> str:
    """The lab for another page, from the source of its own: a button, the markup, and the scripts as a list.

    Raises ValueError if the page has no block with scripts.
    """
    block = BLOCK.search(page)
    scripts = SCRIPT.findall(block[1]) if block else []
    if not scripts:
        raise ValueError(f"{LAB}.md has no block of raw HTML with scripts")
    button = f'<button type="button" class="kd-lab-start" data-scripts="{escape(" ".join(scripts))}" hidden>'
    start = f"<p>{button}Start the lab here (3 MB, from this copy of the book)</button></p>"
    loader = '<script src="../_static/lab/embed.js"></script>'
    return f"{start}\n{SCRIPT.sub('', block[1]).strip()}\n{loader}"
