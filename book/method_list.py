"""The page that lists every method: formula, source, options, views and costs, read from the code."""

from collections.abc import Iterator

from kdlib.data.images import FACTS
from kdlib.lab.cost import Cost, Extras, arm_cost, method_extras
from kdlib.methods import METHODS, Definition, policies_of

PAIR, DATA, VIEWS = ("wrn_40_2", "wrn_16_2"), "cifar100", 256

INTRODUCTION = """# The methods, one by one

Every line of this page is read from the code when the book is built: nothing is typed by hand. `create_method(name,
**options)` makes a method; options that are not given take the values below. Any view policy that a method lists goes
under it, and the number behind the policy is how many views of an image the student then sees.

Costs are those of {teacher} teaching {student} on {data} ({images:,} training images, {views} views in a step), beside
teacher and student themselves. *Extra parameters* are heads of both networks, trained or frozen; *extra in training*
also has gradients and momentum of what is trained, and the memory bank (1 MB is $10^6$ bytes). What is deployed is the
student alone, whatever the method.

$x$ is the original view, $\\tilde x$ the augmented view, $\\mathrm{{rot}}^r x$ a view turned by $r$ quarters, $y$ the
label; $z_t$ and $z_s$ are the logits, $T$ is the temperature, $e$ the epoch of $E$. $t_x$ and $s_x$ are what teacher
and student say of the view $x$, $p_t$ and $p_s$ their probabilities of $N$ classes $c$, and $\\rho$ is Pearson's
correlation; $\\mathbf{{1}}[\\cdot]$ is 1 where what it holds is true and else 0, $\\varepsilon_k$ is standard normal
noise, $E_i$ the energy of the teacher's logits on a view. $M$ views $i$ make a batch; the rows of $F$ are their last
feature maps, and $\\hat G$ is $G$ with rows of unit length; $f$ are mapped pooled features, $L_D$ is the
loss of a discriminator that tells them apart, and $\\hat A^l$ is the mean of the squares of stage $l$ over channels, of
unit length. $g$ is SSKD's head, $a_l$ HSAKD's branch at stage
$l$. The losses themselves are on the page {{doc}}`methods`.
"""


def methods_page() -> str:
    """The page as MyST Markdown."""
    facts = FACTS[DATA]
    text = INTRODUCTION.format(teacher=PAIR[0], student=PAIR[1], data=DATA, images=sum(facts.class_sizes), views=VIEWS)
    return "\n".join([text, *_summary(), *(line for name in METHODS for line in _section(name))]) + "\n"


def extras(name: str) -> tuple[Extras, Cost]:
    """What a method adds to the pair of this page, and the cost of one step with it."""
    facts, definition = FACTS[DATA], METHODS[name]
    classes, images = len(facts.class_sizes), sum(facts.class_sizes)
    teacher, student = PAIR
    if not definition.trains_student or not definition.needs_teacher:  # what is trained is the teacher, or its head
        teacher, student = None, PAIR[0] if definition.head else PAIR[1]
    added = method_extras(name, {}, student, teacher, classes, facts.size, images)
    return added, arm_cost(student, teacher, classes, facts.size, VIEWS, 1, added)


def _summary() -> Iterator[str]:
    yield "| method | trains | extra parameters | extra in training, MB | of it bank, MB | GMACs of a step |"
    yield "|---|---|---:|---:|---:|---:|"
    for name, definition in METHODS.items():
        added, cost = extras(name)
        megabytes = (4 * (3 * added.trained + added.frozen) + added.bank_bytes) / 1e6
        yield (
            f"| [`{name}`](method-{name}) | {_trains(definition)} | {cost.extra_parameters:,} | {megabytes:.2f} "
            f"| {added.bank_bytes / 1e6:.1f} | {cost.step_macs / 1e9:.1f} |"
        )
    yield ""


def _trains(definition: Definition) -> str:
    if not definition.trains_student:
        return "the teacher's head"
    if definition.taxonomy is None or definition.taxonomy.sees != "teacher alone":
        return "the student"
    return "the teacher and its head" if definition.head else "the teacher"


def _section(name: str) -> Iterator[str]:
    definition = METHODS[name]
    yield from (f"(method-{name})=", f"## `{name}`", "", f"{definition.source[0].upper()}{definition.source[1:]}.", "")
    yield from ("$$", definition.formula, "$$", "")
    if definition.taught_by:
        yield from (f"First stage: {' or '.join(f'`{first}`' for first in definition.taught_by)}.", "")
    views = ", ".join(f"`{policy}` ({count})" for policy, count in policies_of(name).items())
    yield from (f"View policies (views the student sees): {views}.", "")
    fields = definition.options.model_fields
    if not fields:
        yield from ("Options: none.", "")
        return
    yield from (f"Options: {' '.join(definition.options.__doc__.split())}", "")
    yield from ("| option | in the formula | default |", "|---|---|---|")
    for option, field in fields.items():
        symbol = f"${field.title}$" if field.title and field.title in definition.formula else ""
        yield f"| `{option}` | {symbol} | {_value(field.default)} |"
    yield ""


def _value(default: object) -> str:
    return f"{default:.6g}" if isinstance(default, float) else f"{default}"
