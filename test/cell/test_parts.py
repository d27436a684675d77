# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Verdicts of cameras to decisions on parts."""

import dataclasses
import math
import random

from flow_anomaly_ros.cell import parts as parts_module
from flow_anomaly_ros.cell.parts import TriggeredParts, WindowedParts
from flow_anomaly_ros.cell.rules import Rules, Vote
from flow_anomaly_ros.scoring.thresholds import Verdict
import pytest

OK, UNCERTAIN, DEFECT = Verdict.OK, Verdict.UNCERTAIN, Verdict.DEFECT


class Cell:
    """Parts whose clock and decisions the test holds; stamps are 1000 ahead of arrivals.

    With triggers each camera takes one image unless the test says otherwise.
    """

    def __init__(self, kind=TriggeredParts, cameras=('front', 'back'), **rules):
        self.now = 0.0
        self.decisions, self.faults = [], []
        self.parts = kind(
            Rules(cameras, **({'one_image': kind is TriggeredParts} | rules)),
            self.decisions.append,
            lambda text, header: self.faults.append((text, header)),
        )

    def wait(self, seconds):
        self.now += seconds
        self.parts.check(self.now)

    def trigger(self, name, stamp=None):
        self.parts.add_trigger(1000 + (self.now if stamp is None else stamp), name, self.now)

    def say(self, camera, verdict, stamp=None, score=0.5):
        taken = 1000 + (self.now if stamp is None else stamp)
        self.parts.add_verdict(camera, taken, f'image {camera}', Vote(verdict, score), self.now)

    @property
    def told(self):
        """Decisions as (name, decision)."""
        return [(one.header, str(one.decision)) for one in self.decisions]

    @property
    def fault_texts(self):
        return [text for text, _ in self.faults]


@pytest.mark.parametrize(
    ('verdicts', 'rules', 'decision'),
    [
        ((OK, OK, OK), {}, 'pass'),
        ((OK, DEFECT, OK), {}, 'reject'),
        ((OK, DEFECT, OK), {'least_defects': 2}, 'pass'),
        ((DEFECT, DEFECT, OK), {'least_defects': 2}, 'reject'),
        ((DEFECT, UNCERTAIN, OK), {'least_defects': 2}, 'reject'),
        ((DEFECT, UNCERTAIN, OK), {'least_defects': 2, 'uncertain': 'hold'}, 'hold'),
        ((DEFECT, UNCERTAIN, OK), {'least_defects': 2, 'uncertain': 'pass'}, 'pass'),
        ((OK, UNCERTAIN, OK), {}, 'reject'),
        ((OK, UNCERTAIN, OK), {'uncertain': 'hold'}, 'hold'),
        ((DEFECT, UNCERTAIN, OK), {'uncertain': 'hold'}, 'reject'),
        ((OK, UNCERTAIN, OK), {'uncertain': 'pass'}, 'pass'),
    ],
)
def test_the_verdicts_of_all_cameras_make_one_decision(verdicts, rules, decision):
    cell = Cell(cameras=('a', 'b', 'c'), **rules)
    cell.trigger('part')
    for camera, verdict in zip('abc', verdicts, strict=True):
        cell.wait(0.1)
        cell.say(camera, verdict)
    assert cell.told == [('part', decision)]
    cell.wait(10)
    assert len(cell.decisions) == 1
    assert not cell.faults


@pytest.mark.parametrize('order', [('front', 'back'), ('back', 'front')])
def test_a_decision_says_why_and_has_the_highest_score(order):
    cell = Cell(uncertain='hold')
    cell.trigger('part')
    said = {'front': (OK, 0.1), 'back': (UNCERTAIN, 0.875)}
    for camera in order:
        verdict, score = said[camera]
        cell.say(camera, verdict, score=score)
    assert cell.decisions[0].reason == 'back: uncertain (0.875)'
    assert cell.decisions[0].score == 0.875


@pytest.mark.parametrize('kind', [TriggeredParts, WindowedParts])
def test_of_several_images_of_a_part_the_worst_counts(kind):
    cell = Cell(kind, cameras=('front',), one_image=False, window=0.3, tolerance=0.05)
    for name, verdicts in (('bad', (OK, DEFECT)), ('good', (OK, OK, OK))):
        if kind is TriggeredParts:
            cell.trigger(name)
        for verdict in verdicts:
            cell.say('front', verdict)
            cell.wait(0.1)
        cell.wait(0.7)
    assert [decision for _, decision in cell.told] == ['reject', 'pass']
    assert not cell.faults


@pytest.mark.parametrize('kind', [TriggeredParts, WindowedParts])
@pytest.mark.parametrize(('one_image', 'waited'), [(True, 0.0), (False, 0.36)])
def test_a_part_passes_when_no_further_image_of_it_can_come(kind, one_image, waited):
    cell = Cell(kind, one_image=one_image, window=0.3, tolerance=0.05)
    if kind is TriggeredParts:
        cell.trigger('part')
    cell.say('front', OK)
    assert not cell.decisions
    cell.say('back', OK)
    if waited:
        cell.wait(0.34)
        assert not cell.decisions
        cell.wait(waited - 0.34)
    assert [decision for _, decision in cell.told] == ['pass']


def test_a_certain_rejection_does_not_wait_for_the_other_cameras():
    cell = Cell()
    cell.trigger('part')
    cell.say('back', DEFECT)
    assert cell.told == [('part', 'reject')]
    cell.say('front', OK)
    cell.wait(10)
    assert not cell.faults


@pytest.mark.parametrize('decision', ['reject', 'hold'])
def test_a_part_without_all_verdicts_never_passes(decision):
    cell = Cell(on_missing=decision, timeout=1.0)
    cell.trigger('part')
    cell.say('front', OK)
    cell.wait(0.99)
    assert not cell.decisions
    cell.wait(0.02)
    assert cell.told == [('part', decision)]
    assert cell.faults == [(f'no verdict of back within 1 s: {decision}', 'part')]
    assert cell.parts.missing == {'back': 1}


def test_a_part_without_any_verdict_never_passes():
    cell = Cell()
    cell.trigger('part')
    cell.wait(2)
    assert cell.told == [('part', 'reject')]
    assert math.isnan(cell.decisions[0].score)
    assert 'front and back' in cell.fault_texts[0]


def test_a_camera_that_is_dead_is_a_fault_even_if_another_rejects():
    cell = Cell(on_missing='hold')
    cell.trigger('part')
    cell.say('front', DEFECT)
    cell.wait(2)
    assert cell.told == [('part', 'reject')]
    assert 'no verdict of back' in cell.fault_texts[0]


def test_a_missing_camera_does_not_pass_a_part_that_the_others_could_not_reject():
    cell = Cell(cameras=('a', 'b', 'c'), least_defects=2, on_missing='hold')
    cell.trigger('part')
    cell.say('a', OK)
    cell.say('b', OK)
    cell.wait(2)
    assert cell.told == [('part', 'hold')]


def test_verdicts_may_come_before_their_trigger():
    cell = Cell()
    cell.say('front', OK, stamp=0.02)
    cell.say('back', DEFECT, stamp=0.01)
    cell.wait(0.1)
    cell.trigger('part', stamp=0.0)
    assert cell.told == [('part', 'reject')]


@pytest.mark.parametrize(('waited', 'decision'), [(0.9, 'pass'), (1.1, 'reject')])
def test_verdicts_wait_for_their_trigger_as_long_as_a_part_for_its_verdicts(waited, decision):
    cell = Cell(cameras=('front',), window=0.5, timeout=1.0)
    cell.say('front', OK, stamp=0.0)
    cell.wait(waited)
    cell.trigger('part', stamp=0.0)
    cell.wait(2)
    assert cell.told == [('part', decision)]
    assert cell.parts.counts['verdicts without part'] == (decision == 'reject')


def test_an_image_may_be_stamped_a_little_before_its_trigger():
    cell = Cell(cameras=('front',), tolerance=0.05)
    cell.trigger('part', stamp=1.0)
    cell.say('front', OK, stamp=0.96)
    assert cell.told == [('part', 'pass')]


@pytest.mark.parametrize('stamp', [0.9, 1.6])
def test_images_far_from_a_trigger_are_not_of_its_part(stamp):
    cell = Cell(cameras=('front',), tolerance=0.05, window=0.5)
    cell.trigger('part', stamp=1.0)
    cell.say('front', OK, stamp=stamp)
    cell.wait(2)
    assert cell.told == [('part', 'reject')]
    assert cell.parts.counts['verdicts without part'] == 1


def test_parts_that_overlap_in_time_keep_their_verdicts_and_their_order():
    cell = Cell(timeout=2.0, window=0.3)
    cell.trigger('first', stamp=0.0)
    cell.trigger('second', stamp=0.5)
    cell.say('front', OK, stamp=0.5)
    cell.say('back', OK, stamp=0.6)
    # The second is complete, but who counts decisions would take it for the first.
    assert not cell.decisions
    cell.say('back', OK, stamp=0.1)
    cell.say('front', DEFECT, stamp=0.0)
    assert cell.told == [('first', 'reject'), ('second', 'pass')]


def test_a_bouncing_trigger_is_one_part():
    cell = Cell(cameras=('front',), debounce=0.1)
    cell.trigger('part', stamp=0.0)
    cell.trigger('bounce', stamp=0.08)
    cell.trigger('bounce', stamp=0.0)
    cell.say('front', OK, stamp=0.09)
    cell.wait(5)
    assert cell.told == [('part', 'pass')]
    assert cell.parts.counts['bounced triggers'] == 2
    assert not cell.faults


def test_a_bounce_that_is_stamped_before_its_trigger_is_one_part():
    cell = Cell(debounce=0.1)
    cell.trigger('part', stamp=0.05)
    cell.trigger('bounce', stamp=0.0)
    assert cell.parts.counts == {'parts': 1, 'bounced triggers': 1}


def test_a_trigger_that_comes_twice_is_one_part_even_without_debounce():
    cell = Cell(debounce=0.0, tolerance=0.05)
    cell.trigger('part', stamp=0.0)
    cell.wait(0.02)
    cell.trigger('part', stamp=0.0)
    assert cell.parts.counts == {'parts': 1, 'bounced triggers': 1}
    assert not cell.faults


@pytest.mark.parametrize(('apart', 'faults'), [(0.4, 1), (0.52, 1), (0.6, 0)])
def test_parts_that_follow_too_fast_to_be_told_apart_are_a_fault(apart, faults):
    cell = Cell(window=0.5, tolerance=0.05)
    cell.trigger('first', stamp=0.0)
    cell.trigger('second', stamp=apart)
    assert cell.parts.waiting == 2
    assert len(cell.faults) == faults
    assert all('shorten' in text for text in cell.fault_texts)


def test_an_image_after_two_triggers_is_of_the_second():
    cell = Cell(cameras=('front',), window=0.5)
    cell.trigger('first', stamp=0.0)
    cell.trigger('second', stamp=0.4)
    cell.say('front', OK, stamp=0.45)
    cell.wait(2)
    assert cell.told == [('first', 'reject'), ('second', 'pass')]


def test_a_late_verdict_is_reported_and_changes_nothing():
    cell = Cell(cameras=('front',))
    cell.trigger('part', stamp=0.0)
    cell.wait(1.5)
    cell.say('front', OK, stamp=0.1)
    assert cell.told == [('part', 'reject')]
    assert cell.parts.counts['late verdicts'] == 1
    assert 'came after the decision' in cell.fault_texts[1]


def test_a_verdict_is_late_even_if_nobody_has_looked_at_the_clock():
    cell = Cell(cameras=('front',), timeout=1.0)
    cell.trigger('part', stamp=0.0)
    # As if the process had stood still.
    cell.now += 1.5
    cell.say('front', OK, stamp=0.1)
    assert cell.told == [('part', 'reject')]


@pytest.mark.parametrize(
    ('verdict', 'uncertain', 'faults'),
    [
        (DEFECT, 'reject', 1),
        (DEFECT, 'pass', 1),
        (UNCERTAIN, 'reject', 1),
        (UNCERTAIN, 'hold', 1),
        (UNCERTAIN, 'pass', 0),
        (OK, 'reject', 0),
    ],
)
def test_a_verdict_against_a_part_that_has_passed_is_a_fault(verdict, uncertain, faults):
    cell = Cell(cameras=('front',), uncertain=uncertain)
    cell.trigger('part', stamp=0.0)
    cell.say('front', OK, stamp=0.1)
    cell.say('front', verdict, stamp=0.3)
    assert cell.told == [('part', 'pass')]
    assert len(cell.faults) == cell.parts.counts['late verdicts'] == faults
    assert all('has passed' in text for text in cell.fault_texts)


def test_a_clock_that_is_set_back_does_not_stop_the_decisions():
    cell = Cell(cameras=('front',), debounce=0.2)
    for index, stamp in enumerate((50.0, 51.0, 3.0, 4.0, 50.0)):
        cell.trigger(index, stamp=stamp)
        cell.wait(0.1)
        cell.say('front', OK, stamp=stamp + 0.1)
        cell.wait(0.9)
    assert cell.told == [(index, 'pass') for index in range(5)]


def test_a_clock_that_is_set_back_a_little_makes_no_bounce_of_a_part():
    cell = Cell(cameras=('front',), debounce=0.2)
    for name, stamp in (('first', 50.0), ('second', 49.9)):
        cell.trigger(name, stamp=stamp)
        cell.wait(0.1)
        cell.say('front', OK, stamp=stamp)
        cell.wait(2.9)
    assert cell.told == [('first', 'pass'), ('second', 'pass')]


def test_a_clock_that_is_set_back_by_a_cycle_makes_no_bounce_of_a_part():
    cell = Cell(cameras=('front',), debounce=0.2, timeout=2.0)
    for name, stamp, verdict in (('first', 50.0, OK), ('second', 50.0 + 0.1, DEFECT)):
        cell.trigger(name, stamp=stamp)
        cell.wait(0.1)
        cell.say('front', verdict, stamp=stamp)
        cell.wait(0.9)
    assert cell.told == [('first', 'pass'), ('second', 'reject')]


@pytest.mark.parametrize('verdict', [OK, DEFECT])
def test_without_triggers_a_clock_that_is_set_back_takes_no_part_for_one_before(verdict):
    cell = Cell(WindowedParts, cameras=('front',), window=0.2)
    for stamp, said in ((10, OK), (11, verdict), (12, OK), (11, DEFECT), (12, OK)):
        cell.say('front', said, stamp=stamp)
        cell.wait(1)
    before = 'pass' if verdict == OK else 'reject'
    assert [decision for _, decision in cell.told] == ['pass', before, 'pass', 'reject', 'pass']
    assert cell.fault_texts == ['the stamps of front went back by 1 s: look at its clock']


def test_memory_is_bounded_whatever_arrives(monkeypatch):
    monkeypatch.setattr(parts_module, 'MAX_PENDING_PARTS', 10)
    cell = Cell(timeout=100.0)
    for index in range(50):
        cell.trigger(index, stamp=10.0 * index)
        cell.say('front', OK, stamp=-500.0 + index)
    assert cell.parts.waiting == 10
    assert cell.told == [(index, 'reject') for index in range(40)]
    assert cell.parts.counts['verdicts without part'] == 40
    assert [header for _, header in cell.faults] == list(range(40))
    assert all('decided early' in text for text in cell.fault_texts)


def test_a_silent_camera_is_a_fault_once_until_it_speaks_again():
    cell = Cell(WindowedParts, cameras=('front',), silence=5.0)
    cell.wait(0)
    for _ in range(3):
        cell.wait(4)
    cell.say('front', OK)
    cell.wait(6)
    assert cell.fault_texts == ['no verdict of front for 5 s'] * 2


def test_without_triggers_a_part_is_what_cameras_see_at_about_the_same_time():
    cell = Cell(WindowedParts, window=0.3)
    cell.say('front', OK, stamp=0.2)
    cell.say('back', OK, stamp=0.0)
    assert not cell.decisions
    cell.wait(0.36)
    assert cell.told == [('image front', 'pass')]
    cell.wait(5)
    assert len(cell.decisions) == 1
    assert not cell.faults


def test_in_a_window_the_worst_of_a_cameras_verdicts_counts():
    cell = Cell(WindowedParts, cameras=('front',), window=0.3, uncertain='hold')
    cell.say('front', OK)
    cell.wait(0.1)
    cell.say('front', UNCERTAIN)
    cell.wait(0.1)
    cell.say('front', OK)
    cell.wait(0.3)
    assert cell.told == [('image front', 'hold')]


def test_an_image_at_the_end_of_a_window_has_time_to_be_inspected():
    cell = Cell(WindowedParts, cameras=('front',), window=0.3, tolerance=0.1)
    cell.say('front', OK, stamp=0.0)
    cell.wait(0.35)
    assert not cell.decisions
    cell.say('front', DEFECT, stamp=0.29)
    assert cell.told == [('image front', 'reject')]


def test_an_image_between_two_parts_is_of_the_nearer_one():
    cell = Cell(WindowedParts, window=0.5)
    cell.say('front', OK, stamp=0.0)
    cell.say('front', OK, stamp=0.8)
    cell.say('back', OK, stamp=0.35)
    cell.wait(2)
    assert cell.told == [('image front', 'pass'), ('image front', 'reject')]


def test_in_a_window_a_defect_rejects_at_once():
    cell = Cell(WindowedParts)
    cell.say('back', DEFECT)
    assert cell.told == [('image back', 'reject')]


def test_without_triggers_a_part_that_one_camera_missed_never_passes():
    cell = Cell(WindowedParts, on_missing='hold')
    cell.say('back', OK)
    cell.wait(0.9)
    assert not cell.decisions
    cell.wait(0.2)
    assert cell.told == [('image back', 'hold')]
    assert cell.parts.missing == {'front': 1}


def test_after_a_window_ok_verdicts_are_of_the_same_part_but_a_defect_is_never_ignored():
    cell = Cell(WindowedParts, cameras=('front',), window=0.2, debounce=0.5)
    cell.say('front', OK)
    cell.wait(0.4)
    assert cell.told == [('image front', 'pass')]
    cell.say('front', OK)
    cell.wait(0.2)
    assert len(cell.decisions) == 1
    assert cell.parts.counts['bounced verdicts'] == 1
    cell.say('front', DEFECT)
    assert cell.told[1:] == [('image front', 'reject')]


@pytest.mark.parametrize(
    ('uncertain', 'decisions'),
    [('reject', ['pass', 'reject']), ('hold', ['pass', 'hold']), ('pass', ['pass'])],
)
def test_after_a_window_an_uncertain_verdict_is_ignored_only_if_it_passes(uncertain, decisions):
    cell = Cell(WindowedParts, cameras=('front',), window=0.2, debounce=0.5, uncertain=uncertain)
    cell.say('front', OK)
    cell.wait(0.4)
    cell.say('front', UNCERTAIN)
    cell.wait(0.4)
    assert [decision for _, decision in cell.told] == decisions


def test_after_a_window_ok_verdicts_are_of_the_same_part_even_if_it_waits_for_another_camera():
    cell = Cell(WindowedParts, window=0.2, debounce=0.5)
    cell.say('front', OK, stamp=0.0)
    cell.say('front', OK, stamp=0.4)
    assert cell.parts.counts == {'parts': 1, 'bounced verdicts': 1}


@pytest.mark.parametrize('cycle', [0.5, 3.0])
@pytest.mark.parametrize('cameras', [('front',), ('front', 'back')])
def test_without_triggers_parts_are_told_apart_though_stamps_stand_still(cameras, cycle):
    cell = Cell(WindowedParts, cameras=cameras, window=0.2)
    for verdict in (OK, DEFECT, DEFECT, OK):
        for camera in cameras:
            cell.say(camera, verdict, stamp=7)
        cell.wait(cycle)
    assert [decision for _, decision in cell.told] == ['pass', 'reject', 'reject', 'reject']
    # Each camera is told of once.
    assert len(cell.faults) == len(cameras)
    assert all('stamps of' in text and 'stand still' in text for text in cell.fault_texts)
    for camera in cameras:
        cell.say(camera, OK, stamp=20)
    cell.wait(cycle)
    assert cell.told[-1][1] == 'pass'


@pytest.mark.parametrize('cycle', [0.7, 3.0])
def test_nothing_passes_while_the_stamps_of_triggers_stand_still(cycle):
    cell = Cell(cameras=('front',), debounce=0.1)
    for name, verdict in (('a', OK), ('b', DEFECT), ('c', OK)):
        cell.trigger(name, stamp=7)
        cell.wait(0.02)
        cell.trigger('bounce', stamp=7)
        cell.wait(0.3)
        cell.say('front', verdict, stamp=7)
        cell.wait(cycle - 0.32)
    assert cell.told == [('a', 'pass'), ('b', 'reject'), ('c', 'reject')]
    assert cell.parts.counts['bounced triggers'] == 3
    assert sum('stamps of triggers stand still' in text for text in cell.fault_texts) == 1


def test_a_defective_part_does_not_pass_by_a_late_verdict_of_the_part_before():
    cell = Cell(cameras=('front',), window=0.3)
    said = []
    for step in range(12):
        if step % 2 == 0:
            cell.trigger(step // 2, stamp=7)
            said.append((cell.now + 0.6, DEFECT if step == 4 else OK))
        cell.wait(0.25)
        while said and said[0][0] <= cell.now:
            cell.say('front', said.pop(0)[1], stamp=7)
    cell.wait(2.0)
    assert (2, 'pass') not in cell.told
    assert len(cell.told) == 6


@pytest.mark.parametrize(
    ('changes', 'named'),
    [
        ({'least_defects': 0}, 'least_defects is 0'),
        ({'least_defects': 3}, 'least_defects is 3'),
        ({'uncertain': 'maybe'}, 'uncertain'),
        ({'on_missing': 'pass'}, 'on_missing'),
        ({'timeout': 0.4}, 'timeout'),
        # Longer than the window, but not than window and tolerance.
        ({'timeout': 0.52}, 'timeout'),
    ],
)
def test_rules_that_make_no_sense_are_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(Rules(('front', 'back')), **changes)


@pytest.mark.parametrize('seed', range(100))
def test_whatever_order_things_come_in_every_part_gets_one_decision_and_none_passes_wrongly(seed):
    """Parts 1 s apart; verdicts are delayed, repeated or lost, triggers are overtaken or bounce."""
    chance = random.Random(seed)
    cameras = ('a', 'b', 'c')
    least = chance.randint(1, 3)
    rules = {
        'least_defects': least,
        'uncertain': chance.choice(('reject', 'hold', 'pass')),
        'on_missing': chance.choice(('reject', 'hold')),
    }
    cell = Cell(cameras=cameras, window=0.5, tolerance=0.05, debounce=0.1, timeout=1.5, **rules)
    events, truth, timely = [], {}, set()
    for name in range(20):
        events.append((name + chance.uniform(0.0, 0.3), 'trigger', name, float(name)))
        if chance.random() < 0.2:
            events.append((name + chance.uniform(0.3, 0.4), 'trigger', name, name + 0.05))
        verdicts, delays = {}, []
        for camera in cameras:
            if chance.random() < 0.2:
                continue
            verdicts[camera] = chance.choice((OK, OK, UNCERTAIN, DEFECT))
            delays.append(chance.choice((0.2, 0.4, 1.0, 3.0)))
            arrival = name + delays[-1] + chance.uniform(0, 0.1)
            events.append((arrival, camera, verdicts[camera], name + chance.uniform(-0.04, 0.4)))
        truth[name] = verdicts
        if len(delays) == 3 and max(delays) <= 1.0:
            timely.add(name)
    for arrival, what, value, stamp in sorted(events, key=lambda event: event[0]):
        while cell.now + 0.05 < arrival:
            cell.wait(0.05)
        cell.now = arrival
        if what == 'trigger':
            cell.trigger(value, stamp=stamp)
        else:
            cell.say(what, value, stamp=stamp)
    cell.wait(10)
    assert [name for name, _ in cell.told] == list(range(20))
    for name, decision in cell.told:
        if name in timely and not any(map(cell.parts.rules.is_against, truth[name].values())):
            assert decision == 'pass'
        if decision == 'pass':
            assert len(truth[name]) == 3
            assert sum(verdict == DEFECT for verdict in truth[name].values()) < least
            assert (
                rules['uncertain'] == 'pass'
                or UNCERTAIN not in truth[name].values()
                or (rules['uncertain'] == 'reject' and least > 1)
            )
    assert {decision for _, decision in cell.told} <= {'pass', 'reject', 'hold'}
