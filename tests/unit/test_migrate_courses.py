# SPDX-License-Identifier: Apache-2.0
"""Which bus a request goes to: every transition of the state machine."""

from __future__ import annotations

import itertools

import pytest

from hybrid_messaging.drivers.migrate.courses import (
    GRACE,
    LOOK,
    TRUST,
    Course,
    Stage,
    Way,
)
from hybrid_messaging.drivers.presence import Presence

LISTENING, GONE, ABSENT, UNKNOWN = Presence
NEW, OLD, HOLD = Way
SETTLING = 60.0
#: A moment at which all looks are over.
LATER = GRACE + LOOK
#: Steps that bring a target to a stage: what each bus says, and when.
PATHS: dict[Stage, list[tuple[Presence, Presence, float]]] = {
    Stage.UNTRIED: [],
    Stage.UNMOVED: [(ABSENT, LISTENING, 0)],
    Stage.MOVED: [(LISTENING, LISTENING, 0)],
    Stage.AWAY: [(LISTENING, LISTENING, 0), (GONE, GONE, 0)],
}


def brought_to(stage: Stage) -> Course:
    course = Course(0, SETTLING)
    for new, old, moment in PATHS[stage]:
        course.choose(new, lambda since, old=old: old, 0, moment)
    assert course.stage is stage
    return course


def choose(course: Course, new: Presence, old: Presence, now: float) -> Way:
    return course.choose(new, lambda since: old, 0, now)


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("old", Presence)
def test_the_new_bus_is_taken_whenever_somebody_listens(
    stage: Stage, old: Presence
) -> None:
    course = brought_to(stage)
    assert choose(course, LISTENING, old, LATER) is NEW
    assert choose(course, LISTENING, old, LATER + GRACE) is NEW
    assert course.stage is Stage.MOVED


def test_a_server_that_refuses_what_it_is_offered_is_away() -> None:
    """Its bus believes in it: the old one is asked all the same."""
    course = brought_to(Stage.MOVED)
    moment = 1.0
    assert choose(course, GONE, LISTENING, moment) is HOLD
    while moment < 1 + GRACE:
        assert choose(course, LISTENING, LISTENING, moment) is NEW
        assert choose(course, GONE, LISTENING, moment) is HOLD
        moment += 0.05
    assert choose(course, LISTENING, LISTENING, moment) is NEW
    assert choose(course, GONE, LISTENING, moment) is OLD


@pytest.mark.parametrize(
    ("new", "old", "now", "way", "stage"),
    [
        # an answer within the first look decides at once
        (ABSENT, LISTENING, 0, OLD, Stage.UNMOVED),
        # it takes both
        (UNKNOWN, LISTENING, 0, HOLD, Stage.UNTRIED),
        (UNKNOWN, UNKNOWN, 0, HOLD, Stage.UNTRIED),
        (ABSENT, UNKNOWN, 0, HOLD, Stage.UNTRIED),
        # a bus that does not answer is not waited for
        (UNKNOWN, LISTENING, LATER, OLD, Stage.UNMOVED),
        # if neither does, its servers may have left the old bus meanwhile
        (UNKNOWN, UNKNOWN, LATER, HOLD, Stage.UNTRIED),
        (ABSENT, UNKNOWN, LATER, OLD, Stage.UNTRIED),
        # nobody is there: a server may come back on either
        (ABSENT, ABSENT, 0, HOLD, Stage.UNTRIED),
        (ABSENT, GONE, LATER, HOLD, Stage.UNTRIED),
        (UNKNOWN, GONE, LATER, HOLD, Stage.UNTRIED),
        # the new bus knows that it was there
        (GONE, LISTENING, 0, HOLD, Stage.AWAY),
    ],
)
def test_a_target_that_was_not_tried(
    new: Presence, old: Presence, now: float, way: Way, stage: Stage
) -> None:
    course = brought_to(Stage.UNTRIED)
    assert choose(course, new, old, now) is way
    assert course.stage is stage


@pytest.mark.parametrize(
    ("new", "now"), [(ABSENT, 0), (ABSENT, SETTLING * 2), (UNKNOWN, TRUST)]
)
def test_a_target_that_has_not_moved_is_left_alone(new: Presence, now: float) -> None:
    def never(since: float) -> Presence:
        raise AssertionError("looked at the old bus")

    course = brought_to(Stage.UNMOVED)
    assert course.choose(new, never, 0, now) is OLD
    assert course.stage is Stage.UNMOVED


@pytest.mark.parametrize("idle_since", [0.0, 100.0])
@pytest.mark.parametrize(
    ("old", "way"),
    [(LISTENING, OLD), (GONE, HOLD), (ABSENT, HOLD), (UNKNOWN, HOLD)],
)
def test_a_target_may_move_while_the_new_bus_does_not_answer(
    idle_since: float, old: Presence, way: Way
) -> None:
    course = brought_to(Stage.UNMOVED)
    assert choose(course, ABSENT, LISTENING, idle_since) is OLD
    now = idle_since + TRUST
    assert choose(course, UNKNOWN, old, now) is OLD
    now += 0.1
    assert choose(course, UNKNOWN, old, now) is HOLD
    assert course.stage is Stage.UNTRIED
    assert course.looking(now)
    assert choose(course, UNKNOWN, old, now + LOOK) is way


def test_a_new_bus_that_is_away_is_waited_for_once() -> None:
    course = brought_to(Stage.UNTRIED)
    assert choose(course, UNKNOWN, LISTENING, 0) is HOLD
    for round in range(1, 5):
        # the old bus is asked each time
        now = round * 2 * TRUST
        assert choose(course, UNKNOWN, LISTENING, now) is OLD
    now += TRUST + 0.1
    assert choose(course, UNKNOWN, GONE, now) is HOLD
    # it may be back, with the servers that have moved meanwhile
    assert choose(course, UNKNOWN, UNKNOWN, now + 2 * TRUST) is HOLD
    assert choose(course, ABSENT, LISTENING, now) is OLD
    assert choose(course, UNKNOWN, LISTENING, now + 2 * TRUST) is HOLD


def test_what_the_old_bus_refuses_is_held() -> None:
    course = brought_to(Stage.UNMOVED)
    course.refused(10)
    assert course.stage is Stage.UNTRIED
    assert not course.looking(10)
    assert choose(course, ABSENT, ABSENT, 10) is HOLD
    for stage in (Stage.MOVED, Stage.AWAY):
        course = brought_to(stage)
        course.refused(10)
        assert course.stage is stage


def test_a_target_that_has_moved_and_left_while_nothing_was_sent() -> None:
    """It may come back on the new bus alone."""
    course = brought_to(Stage.UNMOVED)
    assert choose(course, GONE, LISTENING, LATER) is HOLD
    assert course.stage is Stage.AWAY


@pytest.mark.parametrize("stage", [Stage.MOVED, Stage.AWAY])
@pytest.mark.parametrize(
    ("new", "old"),
    itertools.product([GONE, ABSENT, UNKNOWN], [LISTENING, GONE, ABSENT, UNKNOWN]),
)
def test_a_target_that_has_left_the_new_bus(
    stage: Stage, new: Presence, old: Presence
) -> None:
    """It goes to the old bus if somebody listens there, and nowhere if nobody does."""
    course = brought_to(stage)
    assert choose(course, new, old, LATER) is HOLD or stage is Stage.AWAY
    way = OLD if old is LISTENING else HOLD
    assert choose(course, new, old, LATER + GRACE) is way
    assert course.stage is Stage.AWAY


@pytest.mark.parametrize(
    ("new", "old", "stage"),
    [
        (GONE, LISTENING, Stage.UNMOVED),
        (ABSENT, LISTENING, Stage.UNMOVED),
        # the new bus may be away, with the servers on it
        (UNKNOWN, LISTENING, Stage.AWAY),
        (GONE, GONE, Stage.AWAY),
        (GONE, UNKNOWN, Stage.AWAY),
    ],
)
def test_a_target_that_has_moved_back(
    new: Presence, old: Presence, stage: Stage
) -> None:
    course = brought_to(Stage.AWAY)
    choose(course, new, old, SETTLING - 1)
    assert course.stage is Stage.AWAY
    choose(course, new, old, SETTLING)
    assert course.stage is stage
    # that it was on the new bus is over
    choose(course, new, old, SETTLING + 1)
    assert course.stage is stage


def test_a_target_that_moves_once_more_after_it_has_moved_back() -> None:
    course = brought_to(Stage.AWAY)
    choose(course, GONE, LISTENING, SETTLING)
    assert course.stage is Stage.UNMOVED
    assert choose(course, LISTENING, LISTENING, SETTLING) is NEW
    assert choose(course, GONE, LISTENING, SETTLING + 1) is HOLD
    assert course.stage is Stage.AWAY


@pytest.mark.parametrize("is_call", [True, False])
@pytest.mark.parametrize(
    ("stage", "way", "after"),
    [
        (Stage.UNTRIED, OLD, Stage.UNMOVED),
        (Stage.UNMOVED, OLD, Stage.UNMOVED),
        # left by the new bus while it was held: the old one might keep it for ever
        (Stage.AWAY, NEW, Stage.AWAY),
    ],
)
def test_what_was_held_for_long_enough(
    stage: Stage, way: Way, after: Stage, is_call: bool
) -> None:
    course = brought_to(stage)
    assert course.give_up(is_call, LATER) is way
    assert course.stage is after


@pytest.mark.parametrize(
    ("new", "old", "call", "cast"),
    [
        # there is no queue that could keep it for an answer
        (ABSENT, ABSENT, NEW, OLD),
        (ABSENT, GONE, OLD, OLD),
        (UNKNOWN, ABSENT, OLD, OLD),
    ],
)
def test_what_was_held_for_a_target_that_was_never_seen(
    new: Presence, old: Presence, call: Way, cast: Way
) -> None:
    for is_call, way in ((True, call), (False, cast)):
        course = brought_to(Stage.UNTRIED)
        assert choose(course, new, old, LATER) is HOLD
        assert course.give_up(is_call, LATER) is way


def test_a_target_that_has_just_left_is_held_before_the_old_bus_counts() -> None:
    """A server that was killed may still have its consumers there."""
    course = brought_to(Stage.AWAY)
    looks: list[float] = []

    def look(since: float) -> Presence:
        looks.append(since)
        return LISTENING

    assert course.choose(GONE, look, 0, GRACE / 2) is HOLD
    assert looks == []
    assert course.choose(GONE, look, 0, GRACE) is OLD
    # nor does what was seen before, or before the request was made
    assert course.choose(GONE, look, 20, 20) is OLD
    assert looks == [GRACE, 20]
    # unless it is the bus that has gone, and not the server
    assert course.choose(UNKNOWN, look, 20, 20) is OLD
    assert looks == [GRACE, 20, GRACE]


@pytest.mark.parametrize(
    ("stage", "until"),
    [
        (Stage.UNTRIED, LOOK),
        (Stage.UNMOVED, 0),
        (Stage.MOVED, 0),
        (Stage.AWAY, GRACE + LOOK),
    ],
)
def test_looking_ends(stage: Stage, until: float) -> None:
    course = brought_to(stage)
    assert course.looking(until - 0.1) is (until > 0)
    assert not course.looking(until)
