"""Every formula that the book displays is tested against kdlib: a page cannot print one that no test stands for."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from kdlib.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
JDA, STATS = "tests/views/test_jda.py", "tests/study/test_stats.py"

# A piece of a formula that no other has -> the test that compares kdlib with a slow version of it.
TESTED = {
    r"[L, U] = \bar d": f"{STATS}::test_paired_interval_is_scipys",
    r"\mathrm{KL}_T(t\,\|\,s) = \frac{1}{S}": "tests/methods/test_kd.py::test_kl_is_the_slow_sum",
    r"L_{\mathrm{KD}}": "tests/methods/test_kd.py::test_kd_is_the_mean_of_the_divergence_of_each_view",
    r"p_c = \frac": "tests/methods/test_kd.py::test_kl_is_scipys",
    r"\mathrm{KL}\big(\mathrm{softmax}(z_t/T)": "tests/methods/test_kd.py::test_kl_is_scipys",
    r"L = \frac{1}{|V|}": "tests/methods/test_kd.py::test_kd_is_the_mean_of_the_divergence_of_each_view",
    r"\tilde x = T_K": f"{JDA}::test_equals_the_ops_one_after_another",
    r"\tilde x_k = \begin{cases}": f"{JDA}::test_equals_the_ops_one_after_another",
    r"w_i = \cos": "tests/methods/test_ccd.py::test_weights_are_the_slow_reference",
    r"L_{\mathrm{CCD}}": "tests/methods/test_ccd.py::test_ccd_is_the_slow_sum",
    r"T^2\,\tfrac12\Big[": "tests/methods/test_ccd.py::test_ccd_is_the_slow_sum",
    r"w_0 \mathrm{CE}_x": "tests/methods/test_four_term.py::test_four_terms_are_those_of_each_view",
    r"L_{\mathrm{HSAKD}}": "tests/methods/test_hsakd.py::test_hsakd_terms",
    r"\mathrm{ECE} =": "tests/lab/test_metrics.py::test_ece_is_the_slow_one",
    r"\rho_1 \ge": "tests/lab/measures/test_twins.py::test_near_twins_are_those_of_the_rule",
    r"b = V\,v\,(3 H W": "tests/lab/test_bank.py::test_its_files_are_what_is_said_of_them_and_are_not_written_to",
    r"u_r = ": "tests/lab/measures/test_t_stddev.py::test_every_number_equals_a_slow_reference",
    r"\text{T.stddev} =": "tests/lab/measures/test_t_stddev.py::test_every_number_equals_a_slow_reference",
    r"x_b = \log_2 b": "tests/chapters/budget/test_budget.py::test_the_slope_is_that_of_least_squares",
    r"\alpha_i \cos(z_s(x_i)": "tests/elsewhere/test_hashing.py::test_brcd_is_the_slow_sum",
    r"\mathrm{CE}_{0.1}(y_n": (
        "tests/elsewhere/translation/test_losses.py::test_words_are_the_divergence_at_each_place_that_counts"
    ),
    r"y_k = \exp": "tests/elsewhere/oriented/test_angles.py::test_labels_are_one_at_their_bin_and_go_round",
    r"\mathrm{KL}\big(b_t": "tests/elsewhere/oriented/test_angles.py::test_a_group_is_the_slow_sum",
    r"y_p = m_p": "tests/elsewhere/masked/test_sparse.py::test_a_kept_position_is_that_of_a_submanifold_convolution",
    r"h\Big(f_{ik}": "tests/elsewhere/masked/test_losses.py::test_it_is_the_slow_sum",
    r"(w c + h s)": "tests/elsewhere/boxes/test_views.py::test_turned_boxes_are_as_loose_as_the_closed_form_says",
    r"\mathrm{KL}_T(s\,\|\,t)": "tests/methods/test_kd.py::test_direction_is_from_the_teacher_to_the_student",
}
# The formulas of the page of methods are those of the definitions: method -> its test.
OF_METHODS = {
    "ce": "tests/methods/test_ce.py::test_cross_entropy_is_the_mean_over_all_views",
    "kd": "tests/methods/test_kd.py::test_kd_is_the_mean_of_the_divergence_of_each_view",
    "ccd": "tests/methods/test_ccd.py::test_ccd_weighs_the_augmented_view",
    "four_term": "tests/methods/test_four_term.py::test_four_terms_are_those_of_each_view",
    "dkd": "tests/methods/test_dkd.py::test_dkd_parts_are_those_of_the_two_way_and_of_the_other_distribution",
    "crld": "tests/methods/test_crld.py::test_crld_adds_the_terms_of_both_views_by_gate",
    "tekap": "tests/methods/test_tekap.py::test_tekap_teaches_the_teacher_and_its_copies",
    "ls": "tests/methods/test_ls.py::test_ls_is_kd_between_standardised_logits",
    "dist": "tests/methods/test_dist.py::test_dist_correlates_over_classes_and_over_all_rows",
    "energy_kd": "tests/methods/test_energy.py::test_energy_kd_softens_each_view_by_the_energy_of_its_answer",
    "energy_dkd": "tests/methods/test_energy_dkd.py::test_energy_dkd_softens_both_parts_by_the_energy_of_the_answer",
    "resolution_ce": "tests/methods/test_resolution.py::test_without_a_teacher_it_is_the_cross_entropy_of_what_is_seen",
    "resolution": "tests/methods/test_resolution.py::test_terms_are_those_of_slow_references",
    "spkd": "tests/methods/test_spkd.py::test_spkd_compares_the_last_maps_before_pooling",
    "crd": "tests/methods/test_crd.py::test_loss_scale_and_update_are_those_of_a_loop",
    "sskd_teacher": "tests/methods/test_sskd.py::test_sskd_teacher_finds_the_image_that_a_turned_view_came_from",
    "sskd": "tests/methods/test_sskd.py::test_sskd_terms",
    "hsakd_teacher": "tests/methods/test_hsakd.py::test_hsakd_teachers_learn_class_and_turn",
    "hsakd_joint_teacher": "tests/methods/test_hsakd.py::test_hsakd_teachers_learn_class_and_turn",
    "hsakd": "tests/methods/test_hsakd.py::test_hsakd_terms",
    "soteacher": "tests/methods/test_soteacher.py::test_soteacher_adds_both_terms",
}


def pages() -> dict[str, str]:
    """Name -> the Markdown of a page or of a notebook."""
    found = {path.name: path.read_text() for path in (ROOT / "book").glob("*.md")}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = nbformat.read(path, 4).cells
        found[path.name] = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return found


FORMULAS = [
    (name, " ".join(formula.split()))
    for name, text in sorted(pages().items())
    for formula in re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL)
]


@pytest.mark.parametrize(("page", "formula"), FORMULAS)
def test_a_displayed_formula_has_one_test(page: str, formula: str) -> None:
    assert len({TESTED[piece] for piece in TESTED if piece in formula}) == 1


def test_no_test_stands_for_a_formula_that_is_gone() -> None:
    assert all(any(piece in formula for _, formula in FORMULAS) for piece in TESTED)
    assert set(OF_METHODS) == set(METHODS)


@pytest.mark.parametrize("test", sorted({*TESTED.values(), *OF_METHODS.values()}))
def test_the_named_tests_exist(test: str) -> None:
    file, function = test.split("::")
    names = [node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert function in names
