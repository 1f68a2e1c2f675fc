"""The banner of a page that has another than the book's: an extension of Sphinx, named in _config.yml.

`book/build.py` stages the configuration value `banners`: name of a page without its suffix -> its banner.
"""

from typing import Any


def setup(app: Any) -> dict[str, bool]:
    """Connects the function below to the event whose arguments it takes."""
    app.add_config_value("banners", {}, "html", types=[dict])
    app.connect("html-page-context", put)
    return {"parallel_read_safe": True}


def put(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Puts the page's own banner where the theme looks for the book's."""
    if page in app.config.banners:
        context["theme_announcement"] = app.config.banners[page]
