"""Instant feedback: the verdict, the smallest failing input, and every way a learner's function can go wrong."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from needle_lab.errors import ArgumentError
from needle_lab.grading import check
from needle_lab.grading.calls import call, can_limit_time
from needle_lab.grading.compare import close, valid_order
from needle_lab.grading.question import Question, questions_of
from needle_lab.grading.questions import a1

SOURCE = Path(__file__).parent.parent / "assignments" / "a1" / "a1.ipynb"


def forget_to_sum(g, x, y):
    return g * y, g * x


def recursive_order(graph):
    order, seen = [], set()

    def visit(node):
        if node not in seen:
            seen.add(node)
            for source in graph[node]:
                visit(source)
            order.append(node)
    for node in graph:
        visit(node)
    return order


def overwriting_backward(graph, slopes, order):
    gradient = dict.fromkeys(order, 0.0)
    gradient[order[-1]] = 1.0
    for node in reversed(order):
        for source, slope in zip(graph[node], slopes[node], strict=True):
            gradient[source] = gradient[node] * slope
    return gradient


# ------------------------------------------------------------------------------------------ verdicts

@pytest.mark.parametrize("name", ["a1.q1", "a1.q2", "a1.q3"])
def test_the_oracles_pass_their_own_questions(name):
    feedback = check(name, vars(a1))
    assert feedback and feedback.share == 1 and feedback.failure is None and feedback.works() == []


def test_functions_are_looked_up_where_check_is_called():
    here = {"sigmoid_vjp": a1.sigmoid_vjp, "mul_vjp": a1.mul_vjp, "check": check}
    exec("feedback = check('a1.q1')", here)
    assert here["feedback"].passed


def test_a_wrong_answer_shows_the_smallest_failing_input_with_yours_expected_and_a_hint():
    feedback = check("a1.q1", {"sigmoid_vjp": a1.sigmoid_vjp, "mul_vjp": forget_to_sum})
    assert not feedback
    assert feedback.failure.case.note == "a vector times a scalar"      # equal shapes, which come first, are right
    text = repr(feedback)
    assert text.isascii() and "5 of 10 checks pass" in text
    works = dict(feedback.works())
    assert works["why"] == "entry 1 of the result has shape (3,), expected ()"
    assert "yours" in works and "expected" in works and "used 3 times" in works["hint"]


def test_the_diamond_is_where_overwriting_shows():
    feedback = check("a1.q3", {"backward": overwriting_backward})
    assert feedback.failure.case.note == "b = a + a, c = b + b: a gets 4"
    assert feedback.failure.complaint == "the entry for 'a' is 1, expected 4"


def test_recursion_fails_only_on_the_long_chain():
    feedback = check("a1.q2", {"topological_order": recursive_order})
    assert [t.passed for t in feedback.trials] == [True] * 6 + [False]
    assert "RecursionError" in feedback.failure.complaint and "nested calls" in dict(feedback.works())["hint"]


def test_the_order_of_a_graph_is_printed_as_it_was_given():
    feedback = check("a1.q2", {"topological_order": list})
    assert dict(feedback.works())["input"] == "graph = {'b': ('a',), 'a': ()}"


@pytest.mark.parametrize("function, complaint", [
    (None, "there is no function backward"),
    ("not a function", "there is no function backward"),
    (lambda graph, slopes, order: None, "None: is a `return` missing?"),
    (lambda graph, slopes, order: 3, "an int, expected a dict"),
    (lambda graph, slopes, order: {}, "no entry for 'a'"),
    (lambda graph, slopes, order: {"a": 1, "b": 0}, "an entry for 'b' that should not be there"),
    (lambda graph, slopes, order: {"a": "1"}, "a str, expected numbers"),
    (lambda graph, slopes, order: (x for x in order), "a generator, which is not plain data"),
    (lambda graph, slopes, order: 1 / 0, "ZeroDivisionError: division by zero, at line"),
    (lambda graph, slopes, order: exit(), "SystemExit"),
    (lambda order: {}, "TypeError"),
])
def test_every_way_to_be_wrong_has_its_sentence(function, complaint):
    feedback = check("a1.q3", {} if function is None else {"backward": function})
    assert complaint in feedback.failure.complaint
    assert feedback.trials[1].verdict == "not tried"


def test_changing_an_input_in_place_is_told():
    def backward(graph, slopes, order):
        answer = a1.backward(graph, slopes, order)
        order.append("extra")
        return answer

    assert "changed its input order in place" in check("a1.q3", {"backward": backward}).failure.complaint


def test_an_endless_loop_is_stopped_even_under_a_catch_all():
    def forever(x):
        while True:
            try:
                x = x + 1
            except Exception:
                pass

    outcome = call(forever, (1,), seconds=0.05)
    assert outcome.kind == "timed out" and outcome.message == "still running after 0.05 seconds of processor time"


def test_where_time_cannot_be_limited_the_feedback_says_so():
    found = []
    thread = threading.Thread(target=lambda: found.append((can_limit_time(), repr(check("a1.q1", vars(a1))))))
    thread.start()
    thread.join()
    assert found[0][0] is False and "interrupted by hand" in found[0][1]


def test_an_unknown_question_names_those_there_are():
    with pytest.raises(ArgumentError, match="a1.q1, a1.q2, a1.q3"):
        check("a1.q9")
    for name in ("a99.q1", "../a1.q1", ""):
        with pytest.raises(ArgumentError, match="assignment"):
            check(name)


# ----------------------------------------------------------------------------------- what is shown

def test_html_has_a_glyph_and_a_word_beside_each_colour_and_escapes_what_it_shows():
    feedback = check("a1.q3", {"backward": lambda graph, slopes, order: "<script>alert(1)</script>"})
    bundle = feedback._repr_mimebundle_()
    page = bundle["text/html"]
    assert bundle["text/plain"] == repr(feedback)
    assert "<script" not in page and "&lt;script" in page
    assert "not yet" in page and 'aria-label="failed"' in page and 'aria-label="not tried"' in page
    assert re.search("http", page) is None


def test_every_failing_case_of_a_question_can_be_shown():
    for q in questions_of("a1").values():
        for case in q.cases(seed=0):
            if len(str(case.args)) < 2000:
                assert q.parameters(case.function) and q.compare(case.args, None, q.expected(case))


# ---------------------------------------------------------------------- the declaration and the notebook

def test_the_notebook_and_the_questions_agree_on_cells_and_points():
    cells = {c["metadata"]["nbgrader"]["grade_id"]: c for c in json.loads(SOURCE.read_text(encoding="utf-8"))["cells"]}
    for q in questions_of("a1").values():
        tests = cells[f"{q.cell}-tests"]["metadata"]["nbgrader"]
        answer = cells[q.cell]["metadata"]["nbgrader"]
        assert answer["solution"] and not answer["grade"] and not answer["locked"]
        assert tests["grade"] and tests["locked"] and tests["points"] == q.points
        for function in q.oracles:
            assert f"def {function}({', '.join(q.parameters(function))})" in "".join(cells[q.cell]["source"])


def test_the_cases_grow_and_repeat_with_their_seed():
    for q in questions_of("a1").values():
        assert isinstance(q, Question)
        one, again, other = q.cases(1), q.cases(1), q.cases(2)
        assert all(close((), a.args, b.args) == "" for a, b in zip(one, again, strict=True))
        assert any(close((), a.args, b.args) for a, b in zip(one, other, strict=True))


def test_the_gradient_oracles_agree_with_differences():
    rng = np.random.default_rng(0)
    step = 1e-6
    for case in questions_of("a1")["a1.q1"].cases(seed=3):
        g, *inputs = case.args
        forward = np.multiply if len(inputs) == 2 else lambda x: 1 / (1 + np.exp(-x))
        exact = a1.QUESTIONS[0].oracles[case.function](g, *inputs)
        exact = exact if isinstance(exact, tuple) else (exact,)
        way = [rng.normal(size=np.shape(x)) for x in inputs]
        up, down = (forward(*(x + s * step * w for x, w in zip(inputs, way, strict=True))) for s in (1, -1))
        np.testing.assert_allclose(sum((e * w).sum() for e, w in zip(exact, way, strict=True)),
                                   (g * (up - down)).sum() / (2 * step), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("order, complaint", [
    (["a", "b"], ""),
    (("a", "b"), ""),
    (["b", "a"], "'b' comes before its input 'a'"),
    (["a", "a", "b"], "twice"),
    (["a"], "'b' is missing"),
    (["a", "c"], "'c' is not a node"),
    (["a", ["b"]], "not a node"),
    ({"a": 1}, "a dict, expected a list"),
])
def test_any_valid_order_is_right(order, complaint):
    said = valid_order(({"b": ("a", "a"), "a": ()},), order, None)
    assert said == complaint if not complaint else complaint in said


@pytest.mark.parametrize("yours, complaint", [
    ([[1, 2], [3]], "does not form an array"),
    (np.array([1.0, np.nan]), "nan at [1]"),
    (np.array([[1.0, 2.0]]), "shape (1, 2), expected (2,)"),
    (np.array(["a", "b"]), "expected numbers"),
    (np.array([1, 2]), ""),
    ([1.0, 2.0 + 1e-12], ""),
    (np.array([10**400, 1], dtype=object), "expected numbers"),
])
def test_arrays_are_compared_by_shape_and_value(yours, complaint):
    said = close((), yours, np.array([1.0, 2.0]))
    assert said == complaint if not complaint else complaint in said
