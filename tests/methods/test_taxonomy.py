"""What methods say about themselves is there, is of known words, and agrees with what their definitions say."""

import pytest

from kdlib.methods import METHODS, Taxonomy

FACTS = {"knowledge": ("answer",), "sees": "both the same", "chosen_by": "none", "labels": "the same"}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_where_it_stands_as_its_definition_has_it(name: str):
    definition, facts = METHODS[name], METHODS[name].taxonomy
    assert facts is not None
    learns = definition.trains_student and definition.needs_teacher
    assert bool(facts.knowledge) == learns == facts.sees.startswith("both")
    assert facts.sees == "teacher alone" or definition.trains_student
    assert (facts.sees == "teacher alone") <= bool(definition.head or definition.memory)
    assert (facts.status == "inspired by") == ("[inferred]" in definition.source)
    turned = facts.labels in ("none on turned ones", "class and turn", "the image itself")
    assert turned == (definition.spread != "none")
    assert facts.labels != "none on turned ones" or learns


@pytest.mark.parametrize("field", [*FACTS, "status"])
def test_no_field_may_be_left_out_and_no_other_word_used(field: str):
    given = FACTS | {"status": "verified"}
    assert Taxonomy(**given).task == "classification"
    with pytest.raises(ValueError, match=rf"^{field} is missing: Taxonomy needs it$"):
        Taxonomy(**{name: value for name, value in given.items() if name != field})
    with pytest.raises(ValueError, match=f"^{field}.* = 'luck' is not allowed"):
        Taxonomy(**given | {field: ("luck",) if field == "knowledge" else "luck"})
