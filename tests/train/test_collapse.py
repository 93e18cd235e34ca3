"""Collapse and saturation are said once, and only when they last."""

from jaxmedgen.train.collapse import CollapseWatch, collapse_warnings


def lines(values, name="generator/diversity"):
    return [{"step": 10 * i, name: v} for i, v in enumerate(values)]


def test_a_single_bad_line_is_no_collapse_but_five_in_a_row_are():
    assert collapse_warnings(lines([1, 0.01, 1, 0.01, 0.01, 0.01, 0.01, 1])) == ()
    (found,) = collapse_warnings(lines([1, *[0.01] * 6, 1, *[0.01] * 9]))
    assert "generator collapsed" in found
    assert found.endswith(" collapsed to the end, in steps 10 to 60, 80 to 160")


def test_a_sign_that_has_ended_is_told_as_such_and_only_its_last_times():
    (found,) = collapse_warnings(lines([*[0.01] * 6, 1]))
    assert found.endswith(" collapsed, but not at the end, in steps 0 to 50")
    (found,) = collapse_warnings(lines([1, *[0.0] * 5] * 5))
    last = "to the end, 5 times, the last in steps 130 to 170, 190 to 230, 250 to 290"
    assert found.endswith(last)


def test_a_sign_that_comes_back_is_said_again():
    watch = CollapseWatch()
    values = [*[0.0] * 7, *[1.0] * 2, *[0.0] * 7]
    said = [watch.add(step, {"diversity": value}) for step, value in enumerate(values)]
    assert [step for step, found in enumerate(said) if found] == [4, 13]
    assert "steps 9 to 13" in said[13][0]
    resumed = CollapseWatch(lines([*[0.0] * 6, 1.0], "diversity"))
    again = [resumed.add(70 + step, {"diversity": 0.0}) for step in range(6)]
    assert [len(found) for found in again] == [0, 0, 0, 0, 1, 0]


def test_numbers_that_are_not_finite_neither_help_nor_harm():
    assert collapse_warnings(lines([float("nan")] * 9)) == ()
    (found,) = collapse_warnings(lines([0.0, 0.0, float("nan"), 0.0, 0.0, 0.0]))
    assert "steps 0 to 50" in found


def test_ignored_styles_are_said_with_a_floor_of_their_own():
    name = "discriminator/style_diversity"
    assert collapse_warnings(lines([0.03] * 9, name)) == ()
    (found,) = collapse_warnings(lines([0.5, None, *[0.002, None] * 6], name))
    assert "drawn styles are ignored" in found and "steps 20 to 120" in found


def test_lines_without_the_metric_do_not_break_a_row():
    log = lines([0.999] * 3, "discriminator/discriminator_accuracy")
    log += [{"step": 30, "loss": 1.0}, {"step": 40, "discriminator/discriminator_accuracy": None}]
    log += [{"step": 50 + i, "discriminator/discriminator_accuracy": 1.0} for i in range(2)]
    (found,) = collapse_warnings(log)
    assert "saturated" in found and "steps 0 to 51" in found


def test_the_watch_says_each_sign_once_also_after_a_resume():
    watch = CollapseWatch()
    said = [watch.add(step, {"diversity": 0.0}) for step in range(8)]
    assert [len(s) for s in said] == [0, 0, 0, 0, 1, 0, 0, 0]
    resumed = CollapseWatch(lines([0.0] * 6, "diversity"))
    assert resumed.add(60, {"diversity": 0.0}) == ()


def test_a_collapsed_level_is_named():
    log = [{"step": i, "kl": 8.0, "kl_top": 0.001, "kl_bottom": 8.0} for i in range(6)]
    (found,) = collapse_warnings(log)
    assert "posterior collapse (kl_top" in found and "steps 0 to 5" in found
