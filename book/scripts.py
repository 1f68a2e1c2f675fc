"""Leaves out of the pages the scripts of Thebe, which runs cells on a server: an extension of Sphinx.

Jupyter Book adds them even if no page is to use them, and their constant is declared twice.
"""

from typing import Any

THEBE = "THEBE_JS_URL"


def setup(app: Any) -> dict[str, bool]:
    """Connects the function below, after the extension of Thebe has put its scripts there."""
    app.connect("html-page-context", leave_out, priority=900)
    return {"parallel_read_safe": True}


def leave_out(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Takes the scripts of Thebe from the list of a page."""
    context["script_files"] = [script for script in context["script_files"] if not is_thebe(script)]


def is_thebe(script: Any) -> bool:
    """Whether a script of Sphinx is Thebe's, by its file or by what it declares."""
    return "sphinx-thebe" in str(getattr(script, "filename", "")) or THEBE in script.attributes.get("body", "")
