"""Views: what a GPU makes is what a CPU makes, from draws that are made on the CPU and moved."""

import torch
from material import DEVICE, ON_GPU, OnDevice, draws, no_waiting, photographs

from kdlib.views import ops
from kdlib.views.jda import JDA_LISTS, jda
from kdlib.views.orientations import SPREADS, spread
from kdlib.views.policies import POLICIES, create_policy
from kdlib.views.policy import resized


class Views(OnDevice):
    def test_every_op_gives_equal_images(self) -> None:
        images = photographs()
        for name, op in ops.OPS.items():
            for magnitude in range(ops.MAGNITUDE_STEPS) if op.magnitudes else (0,):
                for sign in (1, -1) if op.signed else (1,):
                    with self.subTest(name, magnitude=magnitude, sign=sign):
                        found = ops.apply_op(name, images.to(DEVICE), magnitude, sign)
                        self.assertEqual(found.device.type, DEVICE)
                        self.assertTrue(torch.equal(found.cpu(), ops.apply_op(name, images, magnitude, sign)))

    def test_jda_gives_equal_images(self) -> None:
        images = photographs()
        for name in JDA_LISTS:
            for p in (0.0, 0.3, 1.0):
                with self.subTest(name, p=p):
                    transform = jda(name, p)
                    uniforms = torch.rand(len(images), transform.draws, generator=torch.Generator().manual_seed(1))
                    self.assertTrue(
                        torch.equal(transform(images.to(DEVICE), uniforms).cpu(), transform(images, uniforms))
                    )

    def test_every_policy_gives_equal_views_and_shares(self) -> None:
        for name in POLICIES:
            for kind in SPREADS:
                policy = create_policy(name)
                if kind != "none" and not policy.spreadable:
                    continue
                with self.subTest(name, spread=kind):
                    policy = spread(policy, kind)
                    images, uniforms = photographs(), draws(policy)
                    partners = images.flip(0) if policy.mixes else None
                    found = policy(images.to(DEVICE), uniforms, None if partners is None else partners.to(DEVICE))
                    self.assertTrue(torch.equal(found.cpu(), policy(images, uniforms, partners)))

    def test_resized_crops_differ_by_a_grey_level_at_most(self) -> None:
        policy = resized(create_policy("jda"), 24)
        images, uniforms = photographs(), draws(policy)
        found, expected = policy(images.to(DEVICE), uniforms).cpu(), policy(images, uniforms)
        self.assertLessEqual((found.int() - expected.int()).abs().max().item(), 1)

    def test_nothing_waits(self) -> None:
        for name in POLICIES:
            with self.subTest(name):
                policy = create_policy(name)
                images, uniforms = photographs().to(DEVICE), draws(policy)
                partners = images.flip(0) if policy.mixes else None
                policy(images, uniforms, partners)  # maps of pixels are moved once
                with no_waiting():
                    policy(images, uniforms, partners)

    def test_the_check_of_waiting_finds_a_wait(self) -> None:
        if not ON_GPU:
            self.skipTest("a CPU is never waited for")
        with self.assertRaises(RuntimeError), no_waiting():
            photographs().to(DEVICE).sum().item()
