"""A run of translation: a network learns to translate, from labels alone or from a teacher too."""

from typing import Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from kdlib.elsewhere.translation.network import Shape, encoder_macs, network_parameters, pair_macs
from kdlib.elsewhere.translation.parallel import GRAMMAR, HELP, check_name, load_text
from kdlib.elsewhere.translation.scores import sacrebleu
from kdlib.elsewhere.translation.spelling import sentencepiece
from kdlib.lab.cost import BYTES
from kdlib.lab.tasks import TaskSpec
from kdlib.records import Number, Record, Whole

View = Literal["plain", "bpe-dropout", "replacement"]
PRESENTATIONS = 2  # of a pair in a step: the plain spelling, and the view
BEAM = 4  # of a teacher that writes what its student learns
NEIGHBOUR_BYTES = 12  # of a piece, int64, and of a distance, float32
AVERAGE = 0.999  # how much of a moving average stays in a step
#: Data set -> pieces of a source and of a target, about; other text is reckoned as `help-texts`.
LENGTHS = {GRAMMAR: (11, 12), HELP: (21, 23)}
# How much longer an operation takes than in the convolutions that forecasts are made for: one core did 10.7 GMAC/s.
SLOWNESS = 12.0


class Terms(Record):
    """What is added to the labels, each with its weight; at 0 it is left out, and nothing else changes."""

    #: divergence from the teacher's answer at each piece (word-level distillation)
    words: Number = Field(0.0, ge=0)
    #: divergence from what followed the nearest states of the teacher (kNN-KD)
    neighbours: Number = Field(0.0, ge=0)
    #: divergence of the two presentations of a pair from each other, half of it each way
    consistency: Number = Field(0.0, ge=0)
    #: whether the teacher's translations stand in place of the targets (sequence-level distillation)
    sequences: bool = False
    #: how many states kNN-KD looks up
    k: Whole = Field(64, ge=1)
    #: the temperature of their squared distances
    tau: Number = Field(100.0, gt=0)
    #: on text without translations: squared distance of what the encoder reads from what its moving average reads
    encoder: Number = Field(0.0, ge=0)
    #: how much of that moving average of the weights stays in a step
    average: Number = Field(AVERAGE, ge=0, lt=1)

    @model_validator(mode="after")
    def _of_one_text(self) -> "Terms":
        if self.sequences and self.neighbours:
            raise ValueError("terms.sequences = true replace the targets that terms.neighbours is of; allowed is one")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """So that the keys of runs without the term of the encoder are what they were before it was there."""
        if self.encoder or self.average != AVERAGE:
            return handler(self)
        return {name: value for name, value in handler(self).items() if name not in ("encoder", "average")}

    @property
    def taught(self) -> bool:
        """Whether they need a teacher."""
        return bool(self.words or self.neighbours or self.sequences)


class TranslationSpec(TaskSpec):
    """All that decides the bits of a run of translation."""

    slowness: ClassVar[float] = SLOWNESS

    #: tells it from specs of other kinds
    kind: Literal["translation"] = "translation"
    #: parallel text, see `kdlib.elsewhere.translation.parallel`
    data: str
    #: other parallel text whose test pairs are translated at the end too, or null
    external: str | None = None
    #: how many training pairs are learnt from, the first in their fixed order
    pairs: Whole = Field(ge=1)
    #: of how many training pairs behind those the sources alone are learnt from too: in place of their targets, which
    #: are not read, stands what the teacher writes, greedily
    untranslated: Whole = Field(0, ge=0)
    #: how many test pairs are translated, or null for all
    tested: Whole | None = Field(None, ge=1)
    #: of the vocabulary, at most; 260 of them are marks and bytes
    pieces: Whole = Field(4000, ge=300)
    #: of the network, see `kdlib.elsewhere.translation.network.Shape`
    width: Whole = Field(96, ge=2)
    #: of the network
    layers: Whole = Field(2, ge=1)
    #: of the network
    heads: Whole = Field(4, ge=1)
    #: null, or the run that it learns from, on the same vocabulary
    teacher: "TranslationSpec | None" = None
    #: what the second presentation of each pair reads: the same spelling, another, or one with other pieces in it
    view: View = "plain"
    #: how strong the view is: how often a merge is left out, or a piece replaced
    p: Number = Field(0.0, ge=0, le=1)
    #: beside the labels
    terms: Terms = Terms()
    #: of labels: how much is spread evenly over the vocabulary
    smoothing: Number = Field(0.1, ge=0, lt=1)
    #: of the network, in training
    dropout: Number = Field(0.1, ge=0, lt=1)
    #: how often each pair, and each source without a translation, is learnt from, each time in two presentations
    epochs: Whole = Field(ge=1)
    #: of an optimiser step
    pairs_per_step: Whole = Field(32, ge=1)
    #: the highest, after the warm-up; then it falls with the root of the step
    learning_rate: Number = Field(2e-3, gt=0)
    #: steps
    warm_up: Whole = Field(400, ge=1)
    #: how often it is evaluated
    evaluations: Whole = Field(1, ge=1, le=10)

    @model_validator(mode="after")
    def _possible(self) -> "TranslationSpec":
        check_name(self.data)
        if self.external is not None:
            check_name(self.external)
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width = {self.width} must be a multiple of 2 and of heads = {self.heads}")
        if self.view == "plain" and self.p:
            raise ValueError(f"p = {self.p} goes with no plain view; allowed is 0, or another view")
        if (self.terms.taught or self.untranslated > 0) != (self.teacher is not None):
            needy = "terms.words, terms.neighbours, terms.sequences or untranslated"
            raise ValueError(f"a teacher goes with {needy}, and those with one")
        if self.terms.encoder and not self.untranslated:
            said = f"terms.encoder = {self.terms.encoder} is of text without translations"
            raise ValueError(f"{said}; allowed is 0, or untranslated above 0")
        if self.terms.neighbours and self.untranslated:
            said = f"untranslated = {self.untranslated} has no right pieces that terms.neighbours could find"
            raise ValueError(f"{said}; allowed is one of both")
        if self.teacher and (self.teacher.data, self.teacher.pieces) != (self.data, self.pieces):
            reads = f"{self.teacher.data!r} in {self.teacher.pieces} pieces"
            raise ValueError(f"teacher reads {reads}; allowed are {self.data!r} in {self.pieces}, as the student does")
        if self.machine.precision != "float32":
            raise ValueError(f"machine.precision = {self.machine.precision!r} is too coarse; allowed is 'float32'")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """So that the keys of runs of pairs alone are what they were before there was other text."""
        fields = handler(self)
        return fields if self.untranslated else {n: value for n, value in fields.items() if n != "untranslated"}

    @property
    def network(self) -> str:
        return f"Transformer of width {self.width}"

    def shape(self, pieces: int) -> Shape:
        """Of the network, for a vocabulary that has so many pieces."""
        return Shape(pieces, self.width, self.layers, self.heads)

    @property
    def sentences(self) -> int:
        """Those that are learnt from, with translations and without."""
        return self.pairs + self.untranslated

    @property
    def steps(self) -> int:
        """Of the optimiser; sentences that fill no step are left out of an epoch."""
        return self.epochs * (self.sentences // self.pairs_per_step)

    @property
    def views(self) -> int:
        return self.steps * self.pairs_per_step * PRESENTATIONS

    @property
    def macs(self) -> int:
        """With usual lengths; what the steps of a run came to is counted, see its metric `mean_gmacs`."""
        found = 3 * self.views * pair_macs(self.shape(self.pieces), *self.lengths)
        found += self.views * self._taught_macs if self.terms.words else 0
        if self.terms.encoder:
            again = self.views * self.untranslated // self.sentences
            found += again * encoder_macs(self.shape(self.pieces), self.lengths[0])
        return found + self.prepared_macs

    @property
    def prepared_macs(self) -> int:
        """Those before the first step, with usual lengths: what the teacher writes, and the search of neighbours."""
        found = (BEAM * self.pairs * self.terms.sequences + self.untranslated) * self._taught_macs
        if self.terms.neighbours:
            found += self.pairs * self._taught_macs + self.states**2 * self.teacher.width
        return found

    @property
    def _taught_macs(self) -> int:
        """Of a pair through the teacher, if there is one."""
        return pair_macs(self.teacher.shape(self.pieces), *self.lengths) if self.teacher else 0

    @property
    def lengths(self) -> tuple[int, int]:
        """Pieces of a source and of a target, about."""
        return LENGTHS.get(self.data, LENGTHS[HELP])

    @property
    def states(self) -> int:
        """Pieces of all targets of the pairs, about."""
        return self.pairs * self.lengths[1]

    @property
    def parameters(self) -> int:
        return network_parameters(self.shape(self.pieces))

    @property
    def kept_bytes(self) -> int:
        """Neighbours of each state, a piece and a distance, and the moving average of the weights."""
        neighbours = self.states * self.terms.k * NEIGHBOUR_BYTES if self.terms.neighbours else 0
        return neighbours + (BYTES * self.parameters if self.terms.encoder else 0)

    def check(self) -> None:
        """Raises ValueError for too few pairs, or a library that is missing; FileNotFoundError for text that is."""
        sentencepiece(), sacrebleu()
        there = len(load_text(self.data).train)
        if self.untranslated and self.sentences > there:
            said = f"untranslated = {self.untranslated} sources are not there beside pairs = {self.pairs}"
            raise ValueError(f"{said}; {self.data} has {there} training pairs, and allowed are as many together")
        if not self.pairs_per_step <= self.pairs <= there:
            allowed = f"allowed are {self.pairs_per_step}, those of a step, to {there}, those of {self.data}"
            raise ValueError(f"pairs = {self.pairs} are not possible; {allowed}")
        if self.external is not None:
            load_text(self.external)
