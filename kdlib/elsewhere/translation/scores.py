"""How good translations are: BLEU (Papineni et al., 2002) and chrF (Popović, 2015), both by sacrebleu (Post, 2018)."""

from collections.abc import Sequence
from typing import Any


def sacrebleu() -> Any:
    """The library, which only translations need. Raises ValueError where it is missing."""
    try:
        import sacrebleu
    except ImportError as error:
        raise ValueError("translation needs sacrebleu: pip install 'kdlib[elsewhere]'") from error
    return sacrebleu


def text_scores(translations: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """bleu and chrf of translations of a whole test set, from 0 to 100.

    >>> text_scores(["der alte Hund sieht das Haus"], ["der alte Hund sieht das Haus"])["chrf"]
    100.0
    """
    library = sacrebleu()
    translations, references = list(translations), [list(references)]
    return {
        "bleu": float(library.corpus_bleu(translations, references).score),
        "chrf": float(library.corpus_chrf(translations, references).score),
    }
