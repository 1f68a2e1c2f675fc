"""The classes of the known sets, in the order of their labels: a teacher's outputs mean these, and nothing else."""

import re
from collections.abc import Sequence

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
    """.split()  # noqa: SIM905
)
TINYIMAGENET_MINI = tuple(
    """
    n01774750 n01882714 n01917289 n01950731 n01983481 n02058221 n02074367 n02085620 n02206856 n02480495 n02699494
    n02927161 n03089624 n03355925 n03444034 n03599486 n03930313 n04008634 n04254777 n04487081
    """.split()  # noqa: SIM905
)
KNOWN = {"cifar10": CIFAR10, "cifar100": CIFAR100, "tinyimagenet-mini": TINYIMAGENET_MINI}
# Some labels of ImageNet-1k: tench, goldfish, great white shark, tarantula, koala, golden retriever, tabby, giant
# panda, sports car, toilet tissue. A thousand WordNet ids in order with these at their places are its classes.
IMAGENET = {
    0: "n01440764", 1: "n01443537", 2: "n01484850", 76: "n01774750", 105: "n01882714", 207: "n02099601",
    281: "n02123045", 388: "n02510455", 817: "n04285008", 999: "n15075141",
}  # fmt: skip


def check_classes(name: str, classes: Sequence[str], where: str) -> None:
    """Raises ValueError if a set in `where` that is known by its name has other classes, or has them in another order.

    A set of another name is the reader's own.
    """
    if problem := unlike(name, classes):
        raise ValueError(
            f"data = {name!r} in {where} has {problem}: a teacher of that set would be wrong about them, so give the "
            "folder as folder:PATH or photos:PATH"
        )


def unlike(name: str, classes: Sequence[str]) -> str:
    """How classes differ from those of the set called `name`, in words; empty if they do not, or if nobody knows.

    Of ImageNet the number of classes, the form of their names and ten of them are compared.

    >>> unlike("cifar10", ["dog", "cat"])
    "2 classes that are not the 10 of cifar10 in their order, such as 'dog' as class 0"
    """
    if name == "imagenet":
        count = 1000
        right = [re.fullmatch(r"n\d{8}", c) and IMAGENET.get(i, c) == c for i, c in enumerate(classes)]
    elif name in KNOWN:
        count = len(KNOWN[name])
        right = [c == known for c, known in zip(classes, KNOWN[name], strict=False)]
    else:
        return ""
    if len(classes) == count and all(right):
        return ""
    odd = next((i for i, good in enumerate(right) if not good), None)
    such = "" if odd is None else f", such as {classes[odd]!r} as class {odd}"
    return f"{len(classes)} classes that are not the {count} of {name} in their order{such}"


def shared_classes(own: Sequence[str], others: Sequence[str]) -> dict[int, int]:
    """Label among others -> label among own, of the classes that are named alike, but for case, blanks and dashes.

    >>> shared_classes(["bus", "pickup_truck"], ["Pickup truck", "truck"])
    {0: 1}
    """
    known = {_plain(name): label for label, name in enumerate(own)}
    return {label: known[_plain(name)] for label, name in enumerate(others) if _plain(name) in known}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.strip().lower())
