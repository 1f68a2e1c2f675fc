"""Every figure is drawn strictly; what the tests of figures share."""

import warnings

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure


@pytest.fixture(autouse=True)
def _strict():
    """Warnings are errors, and no figure stays open."""
    before = plt.get_fignums()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert plt.get_fignums() == before


def drawn(figure: Figure) -> Figure:
    """The figure, after a real drawing."""
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    return figure


def texts(figure: Figure) -> list[str]:
    """The words in its panels, after a real drawing."""
    return [t.get_text() for axis in drawn(figure).axes for t in axis.texts]
