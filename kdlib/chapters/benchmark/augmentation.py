"""Views per second: kdlib on batches against PIL image by image."""

from kdlib.chapters.benchmark import plain
from kdlib.chapters.benchmark.rates import Rates, in_turn, rate
from kdlib.chapters.benchmark.runs import some_images
from kdlib.lab.clock import Tell, nobody
from kdlib.randomness import uniforms
from kdlib.views.policies import create_policy


def augmentation(rounds: int, tell: Tell = nobody, images: int = 512, batch: int = 128) -> Rates:
    """JDA views per second, without crops."""
    some = some_images(images)
    pairs, policy = plain.Pairs(some), create_policy("jda").transform
    numbers = uniforms(0, "augmented ops", 0, images, policy.draws)

    def by_pil(_: int) -> None:
        for picture in pairs.pictures:
            plain.augment(picture, pairs.draws)

    def batched(_: int) -> None:
        for part, drawn in zip(some.images.split(batch), numbers.split(batch), strict=True):
            policy(part, drawn)

    return in_turn({"kdlib": lambda _: rate(images, batched), "PIL": lambda _: rate(images, by_pil)}, rounds, tell)
