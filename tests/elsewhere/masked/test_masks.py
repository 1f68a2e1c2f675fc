"""Cells: exact numbers, nested in the ratio, a function of seed, epoch and image alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.elsewhere.masked.masks import CELL, cells_of, greyed, kept_cells, kept_count, scaled
from kdlib.randomness import draws_of

RATIOS = {0.0: 16, 0.25: 12, 0.5: 8, 0.6: 6, 0.75: 4}


@pytest.mark.parametrize(("ratio", "count"), RATIOS.items())
def test_kept_cells_are_exactly_as_many_as_the_ratio_says(ratio, count):
    kept = kept_cells(torch.rand(50, 16), ratio)
    assert kept.shape == (50, 1, 4, 4) and kept.dtype == torch.bool
    assert kept.flatten(1).sum(1).tolist() == [count] * 50 == [kept_count(cells_of(32), ratio)] * 50
    if ratio:
        assert len(kept.flatten(1).unique(dim=0)) > 25  # not the same ones everywhere


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), first=st.floats(0, 0.95), second=st.floats(0, 0.95))
def test_what_is_kept_at_a_ratio_is_kept_at_a_smaller_one(seed, first, second):
    uniforms = torch.rand(8, 16, generator=torch.Generator().manual_seed(seed))
    more, less = (kept_cells(uniforms, ratio) for ratio in sorted((first, second)))
    assert not (less & ~more).any()


def test_each_cell_is_kept_as_often():
    share = kept_cells(torch.rand(20_000, 16), 0.6).float().mean(0)
    assert torch.allclose(share, torch.full((1, 4, 4), 6 / 16), atol=0.015)  # four standard deviations


def test_masks_depend_on_seed_epoch_and_image_and_not_on_the_batch():
    def kept(seed, epoch, ids):
        ids = torch.tensor(ids)
        return kept_cells(draws_of(seed, {"mask": 16}, torch.full_like(ids, epoch), ids, 40)["mask"], 0.5)

    assert torch.equal(kept(0, 2, range(40))[7:9], kept(0, 2, [7, 8]))
    for other in (kept(1, 2, range(40)), kept(0, 3, range(40))):
        assert not torch.equal(kept(0, 2, range(40)), other)


def test_a_cell_is_eight_pixels_and_two_tokens():
    kept = kept_cells(torch.rand(3, 16), 0.5)
    pixels, tokens = scaled(kept, 32), scaled(kept, 8)
    for b in range(3):
        for row in range(32):
            for column in range(32):
                wanted = kept[b, 0, row // CELL, column // CELL]
                assert pixels[b, 0, row, column] == wanted == tokens[b, 0, row // 4, column // 4]


def test_grey_fills_masked_pixels_and_leaves_the_others():
    images, kept = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8), kept_cells(torch.rand(4, 16), 0.5)
    seen, mask = greyed(images, kept), scaled(kept, 32).expand(-1, 3, -1, -1)
    assert seen.dtype == torch.uint8 and (seen[~mask] == 128).all() and torch.equal(seen[mask], images[mask])
    assert torch.equal(greyed(images, torch.ones(4, 1, 4, 4, dtype=torch.bool)), images)
