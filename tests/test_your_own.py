"""What readers bring: a pair of any two networks, a checkpoint, a method; all in one study, trained in this process."""

import pytest
import torch

from kdlib.lab.recipe import Policy
from kdlib.methods import METHODS, Definition, KDOptions, Term
from kdlib.models import MODELS, create_model
from kdlib.models.checkpoints import PUBLIC, load_checkpoint, own_checkpoint
from kdlib.notebook import open_study
from kdlib.study.arms import Arm, Contrast, OwnTeacher, by_label
from kdlib.study.setting import Setting, Study

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def saved(tmp_path):
    """A file with the weights of a resnet8 for ten classes."""
    torch.manual_seed(3)
    path = tmp_path / "teacher.pth"
    torch.save(create_model("resnet8", 10).state_dict(), path)
    return path


def own(path, **changes):
    fields = {"model": "resnet8", "num_classes": 10, "mean": (0.2,) * 3, "std": (0.3,) * 3} | changes
    return own_checkpoint("mine", path, **fields)


def test_an_own_checkpoint_is_loaded_from_where_it_is(saved, tmp_path, monkeypatch):
    monkeypatch.setitem(PUBLIC, "mine", own(saved))
    loaded = load_checkpoint("mine", tmp_path / "elsewhere").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in torch.load(saved).items())


def test_an_own_checkpoint_that_changed_or_does_not_fit_is_refused(saved, tmp_path, monkeypatch):
    monkeypatch.setitem(PUBLIC, "mine", own(saved, model="resnet14"))
    with pytest.raises(ValueError, match="does not fit resnet14"):
        load_checkpoint("mine", tmp_path)
    monkeypatch.setitem(PUBLIC, "mine", own(saved))
    torch.save(create_model("resnet8", 10).state_dict(), saved)
    with pytest.raises(ValueError, match="does not hold"):
        load_checkpoint("mine", tmp_path)
    with pytest.raises(FileNotFoundError):
        own(tmp_path / "nothing.pth")


def test_any_two_networks_make_a_pair(saved, monkeypatch):
    assert Setting.of("paper", "wrn_16_2-resnet8", device="cpu").networks == ("wrn_16_2", "resnet8")
    assert Setting.of("reference", "cifar100_resnet20-wrn_16_1", device="cpu").networks[0] in PUBLIC
    for pair in ("resnet8", "resnet8-nope", "nope-resnet8", "resnet8-cifar100_resnet20", "resnet8-resnet8-resnet8", 3):
        with pytest.raises(ValueError, match="TEACHER-STUDENT"):
            Setting.of("quick", pair, device="cpu")
    monkeypatch.setitem(PUBLIC, "mine", own(saved))
    assert Setting.of("quick", "mine-resnet8", device="cpu").teacher().checkpoint == "mine"


def test_an_own_method_network_and_teacher_meet_in_a_study(saved, tiny, monkeypatch):
    seen = []

    def loss(batch, options):
        seen.append(batch.teacher.logits.shape)
        return {"ce": Term(batch.cross_entropy, 1.0)}, {}

    monkeypatch.setitem(PUBLIC, "mine", own(saved))
    monkeypatch.setitem(MODELS, "small", MODELS["resnet8"])
    monkeypatch.setitem(METHODS, "mine", Definition(loss, KDOptions, "a test", r"\mathrm{CE}"))
    setting = Setting.of("smoke", "mine-small", seeds=[0, 1], device="cpu", data=tiny)
    arms = by_label(Arm("a", Policy(name="jda"), "mine", fraction=0.5), Arm("b", Policy(name="weak2"), fraction=0.5))
    session = open_study(Study("own", setting, arms, (Contrast.of("a - b", "a", "b"),)))
    assert len(session.frame) == 4 and set(session.frame.arm) == {"a", "b"}
    assert session.contrasts.n.tolist() == [2]
    steps = int(session.frame.steps.iloc[0])
    assert seen == [(32, 10)] * (2 * steps)  # here, and not in another process


def test_what_is_no_state_dict_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "other.pth"
    for content in ({"state_dict": {}, "epoch": 3}, [1, 2], create_model("resnet8", 10)):
        torch.save(content, path)
        with pytest.raises(ValueError, match="must be a file that torch.save made of a state dict") as refusal:
            own(path)
        assert "\n" not in str(refusal.value)
    path.write_bytes(b"junk")
    with pytest.raises(ValueError, match="must be a file"):
        own(path)


def test_nobody_is_told_to_download_what_is_their_own(saved, tmp_path, monkeypatch):
    monkeypatch.setitem(PUBLIC, "mine", own(saved))
    saved.unlink()
    with pytest.raises(FileNotFoundError, match="does not exist.$"):
        load_checkpoint("mine", tmp_path)


def test_a_pair_of_ones_own_has_its_own_teacher_at_reference():
    assert Setting.of("reference", "wrn_16_2-resnet8", device="cpu").teacher().student == "wrn_16_2"
    public = Setting.of("reference", device="cpu")
    study_teacher = public.own_teacher(0, OwnTeacher(Policy(name="weak1")))
    assert study_teacher.student == public.profile.teacher_network
