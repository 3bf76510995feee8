"""Whether a regular expression matches a whole text, in a time that no pattern can blow up.

Python's `re` tries one way after another and goes back where one fails: (a+)+b takes twice as long for each further a.
Here all ways go ahead at once (Thompson, 1968): a step takes the set of places where a match may stand to the set of
places where it may stand next. A set has at most one entry for each letter of the text. RE2, which ONNX asks for, does the
same; like RE2, this has no back references and no looking around, and letters, digits and spaces are those of ASCII.
"""

import re
from collections.abc import Callable, Iterable
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from ...errors import ArgumentError, UnsupportedOnnxError

MOST_TESTS = 5_000_000       # of a letter, in one match: (((a*)*)*)* on a long text would take minutes
CLASSES = {"DIGIT": re.compile("[0-9]"), "SPACE": re.compile(r"[\t\n\f\r ]"), "WORD": re.compile("[0-9A-Za-z_]")}
Places = set[int]


class FullMatch:
    """FullMatch(pattern)(text): whether the pattern matches all of the text.

    Raises UnsupportedOnnxError for what RE2 does not have or this does not know, ArgumentError for no pattern at all and
    for a match that takes more than MOST_TESTS tests.
    """

    def __init__(self, pattern: str):
        try:
            self.parsed = parser.parse(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ArgumentError(f"RegexFullMatch: {pattern!r} is no regular expression: {error}") from error
        self.pattern, self.flags = pattern, self.parsed.state.flags
        if self.flags & ~(re.UNICODE | re.IGNORECASE | re.DOTALL):
            raise UnsupportedOnnxError(f"RegexFullMatch: of the flags in {pattern!r} only i and s are supported")

    def __call__(self, text: str) -> bool:
        self.text, self.tests = text, 0
        return len(text) in self.after(self.parsed, {0})

    def after(self, items: Iterable, places: Places) -> Places:
        """Where a match may stand after a sequence of items."""
        for kind, value in items:
            if not places:
                break
            step = getattr(self, f"_{kind}".lower(), None)
            if step is None:
                raise UnsupportedOnnxError(f"RegexFullMatch: {str(kind).lower()} in {self.pattern!r} is not supported")
            places = step(value, places)
        return places

    # --- one letter -------------------------------------------------------------------------------------------------

    def _letter(self, test: Callable[[str], bool], places: Places) -> Places:
        self.tests += len(places)
        if self.tests > MOST_TESTS:
            raise ArgumentError(f"RegexFullMatch: {self.pattern!r} takes more than {MOST_TESTS:,} tests on a text of "
                                f"{len(self.text):,} letters; simplify nested repetitions")
        either = self.flags & re.IGNORECASE

        def passes(letter: str) -> bool:
            return test(letter) or bool(either) and (test(letter.lower()) or test(letter.upper()))
        return {i + 1 for i in places if i < len(self.text) and passes(self.text[i])}

    def _literal(self, code, places):
        return self._letter(lambda c: ord(c) == code, places)

    def _not_literal(self, code, places):
        return self._letter(lambda c: ord(c) != code, places)

    def _any(self, _, places):
        return self._letter(lambda c: c != "\n" or bool(self.flags & re.DOTALL), places)

    def _in(self, members, places):
        return self._letter(lambda c: _is_member(c, members), places)

    # --- several ----------------------------------------------------------------------------------------------------

    def _branch(self, value, places):
        return set().union(*(self.after(branch, places) for branch in value[1]))

    def _subpattern(self, value, places):
        _, more_flags, fewer_flags, items = value
        if more_flags or fewer_flags:
            raise UnsupportedOnnxError(f"RegexFullMatch: flags for a part of {self.pattern!r} are not supported")
        return self.after(items, places)

    def _max_repeat(self, value, places):
        """From `least` to `most` times: places that were reached before lead to nothing new."""
        least, most, items = value
        for _ in range(least):
            if not places:
                break
            places = self.after(items, places)
        reached = frontier = places
        for _ in range(min(most - least, len(self.text) + 1)):
            frontier = self.after(items, frontier) - reached
            if not frontier:
                break
            reached = reached | frontier
        return reached

    _min_repeat = _max_repeat                            # how greedy it is decides what groups hold, not whether it matches

    def _at(self, where, places):
        name = str(where).removesuffix("_STRING")
        if "BOUNDARY" in name:
            return {i for i in places if self._is_boundary(i) != (name == "AT_NON_BOUNDARY")}
        return places & {0 if name == "AT_BEGINNING" else len(self.text)}

    def _is_boundary(self, i: int) -> bool:
        """Whether a word begins or ends before letter i."""
        before, behind = (bool(CLASSES["WORD"].match(c)) for c in (self.text[i - 1:i], self.text[i:i + 1]))
        return before != behind


def _is_member(letter: str, members: list[tuple[Any, Any]]) -> bool:
    """Whether a letter is in a class such as [^a-z\\d]."""
    found = negated = False
    for kind, value in members:
        name = str(kind)
        if name == "NEGATE":
            negated = True
        elif name == "CATEGORY":
            inside = CLASSES[str(value).rpartition("_")[2]].match(letter) is not None
            found |= inside != ("_NOT_" in str(value))
        else:
            low, high = value if name == "RANGE" else (value, value)
            found |= low <= ord(letter) <= high
    return found != negated
