"""Every figure is drawn strictly."""

import warnings

import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def _strict():
    """Warnings are errors, and no figure stays open."""
    before = plt.get_fignums()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert plt.get_fignums() == before
