# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parts that are announced by a trigger."""

import random

from flow_anomaly_ros.cell import parts as parts_module
from flow_anomaly_ros.cell import triggered_parts
from flow_anomaly_ros.scoring.thresholds import Verdict
import pytest

OK, UNCERTAIN, DEFECT = Verdict.OK, Verdict.UNCERTAIN, Verdict.DEFECT


def test_verdicts_may_arrive_before_their_trigger(make_harness):
    harness = make_harness()
    harness.verdict('front', OK, stamp=0.02)
    harness.verdict('back', DEFECT, stamp=0.01)
    harness.advance(0.1)
    harness.trigger('part', stamp=0.0)
    assert harness.decisions_by_name == [('part', 'reject')]


@pytest.mark.parametrize(('delay', 'decision'), [(0.9, 'pass'), (1.1, 'reject')])
def test_an_early_verdict_is_kept_for_the_timeout(make_harness, delay, decision):
    harness = make_harness(cameras=('front',), window=0.5, timeout=1.0)
    harness.verdict('front', OK, stamp=0.0)
    harness.advance(delay)
    harness.trigger('part', stamp=0.0)
    harness.advance(2)
    assert harness.decisions_by_name == [('part', decision)]
    assert harness.parts.counts['verdicts without part'] == (decision == 'reject')


def test_an_image_may_be_stamped_slightly_before_its_trigger(make_harness):
    harness = make_harness(cameras=('front',), tolerance=0.05)
    harness.trigger('part', stamp=1.0)
    harness.verdict('front', OK, stamp=0.96)
    assert harness.decisions_by_name == [('part', 'pass')]


@pytest.mark.parametrize('stamp', [0.9, 1.6])
def test_images_outside_the_window_of_a_trigger_do_not_belong_to_its_part(make_harness, stamp):
    harness = make_harness(cameras=('front',), tolerance=0.05, window=0.5)
    harness.trigger('part', stamp=1.0)
    harness.verdict('front', OK, stamp=stamp)
    harness.advance(2)
    assert harness.decisions_by_name == [('part', 'reject')]
    assert harness.parts.counts['verdicts without part'] == 1


def test_overlapping_parts_keep_their_verdicts_and_their_order(make_harness):
    harness = make_harness(timeout=2.0, window=0.3)
    harness.trigger('first', stamp=0.0)
    harness.trigger('second', stamp=0.5)
    harness.verdict('front', OK, stamp=0.5)
    harness.verdict('back', OK, stamp=0.6)
    # The second part is complete, but decisions come in the order of the parts.
    assert not harness.decisions
    harness.verdict('back', OK, stamp=0.1)
    harness.verdict('front', DEFECT, stamp=0.0)
    assert harness.decisions_by_name == [('first', 'reject'), ('second', 'pass')]


def test_a_bouncing_trigger_announces_one_part(make_harness):
    harness = make_harness(cameras=('front',), debounce=0.1)
    harness.trigger('part', stamp=0.0)
    harness.trigger('bounce', stamp=0.08)
    harness.trigger('bounce', stamp=0.0)
    harness.verdict('front', OK, stamp=0.09)
    harness.advance(5)
    assert harness.decisions_by_name == [('part', 'pass')]
    assert harness.parts.counts['bounced triggers'] == 2
    assert not harness.faults


def test_a_bounce_may_be_stamped_before_its_trigger(make_harness):
    harness = make_harness(debounce=0.1)
    harness.trigger('part', stamp=0.05)
    harness.trigger('bounce', stamp=0.0)
    assert harness.parts.counts == {'parts': 1, 'bounced triggers': 1}


def test_a_duplicated_trigger_announces_one_part_even_without_debounce(make_harness):
    harness = make_harness(debounce=0.0, tolerance=0.05)
    harness.trigger('part', stamp=0.0)
    harness.advance(0.02)
    harness.trigger('part', stamp=0.0)
    assert harness.parts.counts == {'parts': 1, 'bounced triggers': 1}
    assert not harness.faults


@pytest.mark.parametrize(('interval', 'faults'), [(0.4, 1), (0.52, 1), (0.6, 0)])
def test_triggers_closer_than_window_and_tolerance_raise_a_fault(make_harness, interval, faults):
    harness = make_harness(window=0.5, tolerance=0.05)
    harness.trigger('first', stamp=0.0)
    harness.trigger('second', stamp=interval)
    assert harness.parts.pending_count == 2
    assert len(harness.faults) == faults
    assert all('shorten' in text for text in harness.fault_texts)


def test_an_image_after_two_triggers_belongs_to_the_second_part(make_harness):
    harness = make_harness(cameras=('front',), window=0.5)
    harness.trigger('first', stamp=0.0)
    harness.trigger('second', stamp=0.4)
    harness.verdict('front', OK, stamp=0.45)
    harness.advance(2)
    assert harness.decisions_by_name == [('first', 'reject'), ('second', 'pass')]


def test_decisions_continue_after_a_clock_has_jumped_back(make_harness):
    harness = make_harness(cameras=('front',), debounce=0.2)
    for index, stamp in enumerate((50.0, 51.0, 3.0, 4.0, 50.0)):
        harness.trigger(index, stamp=stamp)
        harness.advance(0.1)
        harness.verdict('front', OK, stamp=stamp + 0.1)
        harness.advance(0.9)
    assert harness.decisions_by_name == [(index, 'pass') for index in range(5)]


def test_a_part_is_not_taken_for_a_bounce_after_a_small_clock_jump(make_harness):
    harness = make_harness(cameras=('front',), debounce=0.2)
    for name, stamp in (('first', 50.0), ('second', 49.9)):
        harness.trigger(name, stamp=stamp)
        harness.advance(0.1)
        harness.verdict('front', OK, stamp=stamp)
        harness.advance(2.9)
    assert harness.decisions_by_name == [('first', 'pass'), ('second', 'pass')]


def test_a_part_is_not_taken_for_a_bounce_after_a_clock_jump_of_one_cycle(make_harness):
    harness = make_harness(cameras=('front',), debounce=0.2, timeout=2.0)
    for name, stamp, verdict in (('first', 50.0, OK), ('second', 50.0 + 0.1, DEFECT)):
        harness.trigger(name, stamp=stamp)
        harness.advance(0.1)
        harness.verdict('front', verdict, stamp=stamp)
        harness.advance(0.9)
    assert harness.decisions_by_name == [('first', 'pass'), ('second', 'reject')]


def test_memory_is_bounded_whatever_arrives(make_harness, monkeypatch):
    monkeypatch.setattr(parts_module, 'MAX_PENDING_PARTS', 10)
    monkeypatch.setattr(triggered_parts, 'MAX_EARLY_VERDICTS', 10)
    harness = make_harness(timeout=100.0)
    for index in range(50):
        harness.trigger(index, stamp=10.0 * index)
        harness.verdict('front', OK, stamp=-500.0 + index)
    assert harness.parts.pending_count == 10
    assert harness.decisions_by_name == [(index, 'reject') for index in range(40)]
    assert harness.parts.counts['verdicts without part'] == 40
    assert [header for _, header in harness.faults] == list(range(40))
    assert all('because 10 parts are pending' in text for text in harness.fault_texts)


@pytest.mark.parametrize('cycle', [0.7, 3.0])
def test_no_part_passes_while_trigger_timestamps_do_not_advance(make_harness, cycle):
    harness = make_harness(cameras=('front',), debounce=0.1)
    for name, verdict in (('a', OK), ('b', DEFECT), ('c', OK)):
        harness.trigger(name, stamp=7)
        harness.advance(0.02)
        harness.trigger('bounce', stamp=7)
        harness.advance(0.3)
        harness.verdict('front', verdict, stamp=7)
        harness.advance(cycle - 0.32)
    assert harness.decisions_by_name == [('a', 'pass'), ('b', 'reject'), ('c', 'reject')]
    assert harness.parts.counts['bounced triggers'] == 3
    fault = 'timestamps from triggers do not advance'
    assert sum(fault in text for text in harness.fault_texts) == 1


def test_a_late_verdict_on_the_previous_part_does_not_pass_a_defective_one(make_harness):
    harness = make_harness(cameras=('front',), window=0.3)
    verdicts = []
    for step in range(12):
        if step % 2 == 0:
            harness.trigger(step // 2, stamp=7)
            verdicts.append((harness.now + 0.6, DEFECT if step == 4 else OK))
        harness.advance(0.25)
        while verdicts and verdicts[0][0] <= harness.now:
            harness.verdict('front', verdicts.pop(0)[1], stamp=7)
    harness.advance(2.0)
    assert (2, 'pass') not in harness.decisions_by_name
    assert len(harness.decisions_by_name) == 6


@pytest.mark.parametrize('seed', range(100))
def test_every_part_gets_one_decision_and_none_passes_wrongly_in_any_order_of_arrival(
    make_harness, seed
):
    """Parts come every second. Verdicts are delayed or lost; triggers arrive late or bounce."""
    rng = random.Random(seed)
    cameras = ('a', 'b', 'c')
    least_defects = rng.randint(1, 3)
    rules = {
        'least_defects': least_defects,
        'uncertain': rng.choice(('reject', 'hold', 'pass')),
        'on_missing': rng.choice(('reject', 'hold')),
    }
    harness = make_harness(
        cameras=cameras, window=0.5, tolerance=0.05, debounce=0.1, timeout=1.5, **rules
    )
    events, truth, timely = [], {}, set()
    for name in range(20):
        events.append((name + rng.uniform(0.0, 0.3), 'trigger', name, float(name)))
        if rng.random() < 0.2:
            events.append((name + rng.uniform(0.3, 0.4), 'trigger', name, name + 0.05))
        verdicts, delays = {}, []
        for camera in cameras:
            if rng.random() < 0.2:
                continue
            verdicts[camera] = rng.choice((OK, OK, UNCERTAIN, DEFECT))
            delays.append(rng.choice((0.2, 0.4, 1.0, 3.0)))
            arrival = name + delays[-1] + rng.uniform(0, 0.1)
            events.append((arrival, camera, verdicts[camera], name + rng.uniform(-0.04, 0.4)))
        truth[name] = verdicts
        if len(delays) == 3 and max(delays) <= 1.0:
            timely.add(name)
    for arrival, source, value, stamp in sorted(events, key=lambda event: event[0]):
        while harness.now + 0.05 < arrival:
            harness.advance(0.05)
        harness.now = arrival
        if source == 'trigger':
            harness.trigger(value, stamp=stamp)
        else:
            harness.verdict(source, value, stamp=stamp)
    harness.advance(10)
    assert [name for name, _ in harness.decisions_by_name] == list(range(20))
    for name, decision in harness.decisions_by_name:
        if name in timely and not any(map(harness.parts.rules.blocks_pass, truth[name].values())):
            assert decision == 'pass'
        if decision == 'pass':
            assert len(truth[name]) == 3
            assert sum(verdict == DEFECT for verdict in truth[name].values()) < least_defects
            assert (
                rules['uncertain'] == 'pass'
                or UNCERTAIN not in truth[name].values()
                or (rules['uncertain'] == 'reject' and least_defects > 1)
            )
    assert {decision for _, decision in harness.decisions_by_name} <= {'pass', 'reject', 'hold'}
