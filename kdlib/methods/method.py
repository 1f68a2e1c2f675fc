"""The methods by name, and a method around a student and its teacher.

A method of your own is one file: options, a loss, and its `Definition`; and one line in METHODS, or
`METHODS["mine"] = Definition(...)` in a program of yours.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Memory, Step
from kdlib.methods.ccd import CCD
from kdlib.methods.ce import CE
from kdlib.methods.crd import CRD
from kdlib.methods.crld import CRLD
from kdlib.methods.dist import DIST
from kdlib.methods.dkd import DKD
from kdlib.methods.energy import ENERGY_KD
from kdlib.methods.energy_dkd import ENERGY_DKD
from kdlib.methods.four_term import FOUR_TERM
from kdlib.methods.hsakd import HSAKD, HSAKD_JOINT_TEACHER, HSAKD_TEACHER
from kdlib.methods.kd import KD
from kdlib.methods.ls import LS
from kdlib.methods.resolution import RESOLUTION, RESOLUTION_CE
from kdlib.methods.soteacher import SOTEACHER
from kdlib.methods.spkd import SPKD
from kdlib.methods.sskd import SSKD, SSKD_TEACHER
from kdlib.methods.tekap import TEKAP
from kdlib.models import Backbone, Output
from kdlib.models.network import Network
from kdlib.records import Record
from kdlib.views.orientations import spread
from kdlib.views.policies import POLICIES, create_policy
from kdlib.views.policy import BY_ENERGY, ViewPolicy

#: Method name -> its definition.
METHODS: dict[str, Definition] = {
    "ce": CE,
    "kd": KD,
    "ccd": CCD,
    "four_term": FOUR_TERM,
    "dkd": DKD,
    "crld": CRLD,
    "tekap": TEKAP,
    "ls": LS,
    "dist": DIST,
    "energy_kd": ENERGY_KD,
    "energy_dkd": ENERGY_DKD,
    "resolution_ce": RESOLUTION_CE,
    "resolution": RESOLUTION,
    "spkd": SPKD,
    "crd": CRD,
    "sskd_teacher": SSKD_TEACHER,
    "sskd": SSKD,
    "hsakd_teacher": HSAKD_TEACHER,
    "hsakd_joint_teacher": HSAKD_JOINT_TEACHER,
    "hsakd": HSAKD,
    "soteacher": SOTEACHER,
}


def find_method(name: str) -> Definition:
    """The definition called `name`. Raises ValueError for an unknown name."""
    if name not in METHODS:
        raise ValueError(f"method = {name!r} is unknown; allowed are {', '.join(METHODS)}")
    return METHODS[name]


def method_options(name: str, options: Mapping) -> Record:
    """The validated options of a method. Raises ValueError for anything unknown or out of range."""
    definition = find_method(name)
    if not isinstance(options, Mapping):
        raise ValueError(f"options = {options!r} of method {name!r} must be a mapping of names to values")
    return definition.options(**options)


def survey_of(name: str, options: Record) -> Callable[[Tensor], tuple[float, ...]] | None:
    """What a method makes of the teacher's survey at these options (see `Definition.survey`); None if it needs none."""
    definition = find_method(name)
    judge = definition.survey
    if judge is None or definition.surveys is not None and not definition.surveys(options):
        return None
    return lambda answers: judge(answers, options)


def check_method(name: str, has_teacher: bool, policy: ViewPolicy) -> ViewPolicy:
    """The views that the student sees: the policy's, spread as the method needs.

    Raises ValueError if the method misses its teacher, has one too many, or does not go with the policy.
    """
    definition = find_method(name)
    if definition.needs_teacher != has_teacher:
        raise ValueError(
            f"teacher of method {name!r} must be {'given' if definition.needs_teacher else 'absent (null)'}"
        )
    if definition.views is not None and policy.views not in definition.views:
        allowed = " or ".join(map(str, definition.views))
        raise ValueError(
            f"method {name!r} needs a policy with {allowed} views per image; "
            f"policy {policy.name!r} makes {policy.views}"
        )
    if policy.mixes and not definition.mixes:
        raise ValueError(
            f"method {name!r} needs views of one image each; policy {policy.name!r} mixes two, which goes with "
            + ", ".join(n for n, d in METHODS.items() if d.mixes)
        )
    taught = definition.needs_teacher and definition.trains_student
    if policy.attends and not taught:
        raise ValueError(
            f"policy {policy.name!r} needs maps of the teacher of a student; method {name!r} has none, allowed are "
            + ", ".join(n for n, d in METHODS.items() if d.needs_teacher and d.trains_student)
        )
    if policy.picks in BY_ENERGY and not taught:
        raise ValueError(
            f"policy {policy.name!r} by {policy.picks!r} asks the teacher of a student which images are chosen; "
            f"method {name!r} has none, which goes with by 'random'"
        )
    try:
        return spread(policy, definition.spread)
    except ValueError as error:
        raise ValueError(f"method {name!r} turns every view itself: {error}") from None


def policies_of(name: str) -> dict[str, int]:
    """The policies that a method goes with, and how many views of an image the student then sees."""
    found = {}
    for policy in POLICIES:
        try:
            found[policy] = check_method(name, find_method(name).needs_teacher, create_policy(policy)).views
        except ValueError:  # it says why; here it is enough that they do not go together
            continue
    return found


def new_head(name: str, backbone: Backbone, options: Mapping) -> nn.Module | None:
    """The head that a method adds to `backbone`, freshly initialised (torch's global generator), or None."""
    make = find_method(name).head
    return make(backbone, method_options(name, options)) if make else None


def new_memory(
    name: str, student: Backbone, teacher: Backbone | None, labels: Tensor, options: Mapping
) -> Memory | None:
    """What a method trains or remembers beside the student, or None. labels: int64 [n], of the training images."""
    make = find_method(name).memory
    return make(student, teacher, labels, method_options(name, options)) if make else None


class Method(nn.Module):
    """A student, its teacher (an inference copy, see `Network.frozen`), and the loss between them.

    Made by `create_method`. Both networks are given as much of each view as the method says. Where the method trains
    only a head, the student's backbone is frozen and in eval mode.
    forward: Step -> Loss.
    """

    def __init__(
        self,
        definition: Definition,
        student: Network,
        teacher: Network | None,
        options: Record,
        memory: Memory | None = None,
    ):
        super().__init__()
        self.definition, self.options = definition, options
        self.student, self.memory = student, memory
        if not definition.trains_student:
            student.backbone.requires_grad_(False)
        self.teacher = teacher.frozen() if teacher is not None else None
        student.resolution, given = definition.resolutions_of(options)
        if self.teacher is not None:
            self.teacher.resolution = given

    def train(self, mode: bool = True) -> "Method":
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        if not self.definition.trains_student:
            self.student.backbone.eval()
        return self

    def forward(self, step: Step) -> Loss:
        flat = step.views.flatten(0, 1)
        teacher = None
        if step.answers is not None:
            teacher = Output(step.answers.flatten(0, 1).float())
        elif self.teacher is not None:
            with torch.no_grad():
                teacher = self.teacher(flat)
        output = self.student(flat)
        return self.definition.loss(Batch(step, output, teacher, self.memory, self.student.backbone), self.options)

    def after_step(self) -> None:
        """What the method does once the optimiser has moved: CRD and SoTeacher update their memories."""
        if self.memory is not None:
            self.memory.update()

    def own_state(self) -> dict[str, Tensor]:
        """The state dict without the teacher's: what a checkpoint needs."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("teacher.")}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Puts `own_state` back. Raises RuntimeError if a name or a shape differs."""
        theirs = {name: value for name, value in self.state_dict().items() if name.startswith("teacher.")}
        self.load_state_dict({**theirs, **state})


def create_method(
    name: str, student: Network, teacher: Network | None = None, labels: Tensor | None = None, **options
) -> Method:
    """The method called `name` around a student, with a fresh head and memory (from torch's global generator).

    student: it gets the method's head; for a method that trains only a head, the trained teacher itself. teacher: with
    its trained head, if the method needs one. labels: int64 [n], of the training images, for methods with a memory.
    Raises ValueError for anything unknown, missing or out of range.
    """
    definition = find_method(name)
    checked = method_options(name, options)
    if (teacher is not None) != (definition.needs_teacher and definition.trains_student):
        raise ValueError(f"teacher of method {name!r} must be {'absent' if teacher is not None else 'given'}")
    if teacher is not None and definition.taught_by and teacher.head is None:
        raise ValueError(f"teacher of method {name!r} has no head; {' or '.join(definition.taught_by)} trains one")
    if definition.memory and labels is None:
        raise ValueError(f"labels of the training images must be given: method {name!r} has a memory of them")
    if definition.head:
        student.attach(definition.head(student.backbone, checked))
    memory = None
    if definition.memory and labels is not None:
        theirs = teacher.backbone if teacher is not None else None
        memory = definition.memory(student.backbone, theirs, labels, checked)
    return Method(definition, student, teacher, checked, memory)
