"""Cost against work: does more work cost more than its share?"""

from collections.abc import Callable, Mapping

from kdlib.chapters.benchmark.records import Growth
from kdlib.chapters.benchmark.runs import alone, run_of, some_images, steps_of
from kdlib.data.images import facts
from kdlib.lab.clock import Tell, in_turn, nobody, timed
from kdlib.lab.cost import model_size
from kdlib.lab.specs import RunSpec
from kdlib.show.pictures import views_of
from kdlib.views.policies import create_policy

Sizes = Mapping[float, Callable[[int], object]]  #: amount of work -> what does it

IMAGES = (256, 512, 1024, 2048)
POLICIES = ("weak1", "weak2", "rot4")  # of one, two and four views
BATCHES = (16, 32, 64, 128, 256)
WIDTHS = {"WRN-16": ("wrn_16_1", "wrn_16_2"), "ResNet-8": ("resnet8", "resnet8x4")}


def growths(rounds: int, tell: Tell = nobody) -> list[Growth]:
    """Seconds against images to augment, views of an image, images of a step, and the width of the network."""
    policy, images = create_policy("jda"), some_images(max(IMAGES)).images
    making = {n: lambda _, n=n: views_of(policy, images[:n]) for n in IMAGES}
    views = {create_policy(name).views: alone("resnet8", name) for name in POLICIES}
    widths = {
        (f"width, {family}", "million MACs"): _steps({million_macs(run): run for run in map(alone, names)})
        for family, names in WIDTHS.items()
    }
    measured = {
        ("images through JDA", "images"): making,
        ("views of an image, ResNet-8", "views"): _steps(views),
        ("images of a step", "images"): _steps({n: run_of("resnet", n) for n in BATCHES}),
        **widths,
    }
    return [
        _growth(*names, sizes, rounds, lambda share, before=before: tell((before + share) / len(measured)))
        for before, (names, sizes) in enumerate(measured.items())
    ]


def million_macs(run: RunSpec) -> float:
    """Multiply-accumulates (1e6) of a view in the run's student."""
    known = facts(run.data)
    return model_size(run.student, len(known.class_sizes), known.size)[1] / 1e6


def _steps(runs: Mapping[float, RunSpec]) -> Sizes:
    return {work: steps_of(run).take for work, run in runs.items()}


def _growth(title: str, unit: str, sizes: Sizes, rounds: int, tell: Tell) -> Growth:
    """Three times as many rounds as were asked for: single steps are short, and so their times scatter."""
    tasks = {work: timed(task) for work, task in sizes.items()}
    seconds = in_turn(tasks, 3 * rounds, warm_up=3, tell=tell)
    return Growth(title=title, unit=unit, work=list(sizes), seconds=list(seconds.values()))
