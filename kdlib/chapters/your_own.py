"""The reader's own: data, a network, an operation, a method and a teacher are registered in the chapter itself."""

from kdlib.study.setting import Setting, Study


def create(setting: Setting) -> Study:
    """The study of chapter 13_your_own: empty, because what it compares is made in the chapter."""
    return Study("13_your_own", setting, {})
