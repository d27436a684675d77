# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""One decision per part from the verdicts of its cameras, with and without triggers."""

import math

from flow_anomaly_ros.cell.triggered_parts import TriggeredParts
from flow_anomaly_ros.cell.windowed_parts import WindowedParts
from flow_anomaly_ros.scoring.thresholds import Verdict
import pytest

OK, UNCERTAIN, DEFECT = Verdict.OK, Verdict.UNCERTAIN, Verdict.DEFECT


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
def test_verdicts_of_all_cameras_yield_one_decision(make_harness, verdicts, rules, decision):
    harness = make_harness(cameras=('a', 'b', 'c'), **rules)
    harness.trigger('part')
    for camera, verdict in zip('abc', verdicts, strict=True):
        harness.advance(0.1)
        harness.verdict(camera, verdict)
    assert harness.decisions_by_name == [('part', decision)]
    harness.advance(10)
    assert len(harness.decisions) == 1
    assert not harness.faults


@pytest.mark.parametrize('order', [('front', 'back'), ('back', 'front')])
def test_a_decision_gives_its_reason_and_the_highest_score(make_harness, order):
    harness = make_harness(uncertain='hold')
    harness.trigger('part')
    votes = {'front': (OK, 0.1), 'back': (UNCERTAIN, 0.875)}
    for camera in order:
        verdict, score = votes[camera]
        harness.verdict(camera, verdict, score=score)
    assert harness.decisions[0].reason == 'back: uncertain (0.875)'
    assert harness.decisions[0].score == 0.875


@pytest.mark.parametrize('parts_class', [TriggeredParts, WindowedParts])
def test_the_worst_of_several_images_of_a_part_counts(make_harness, parts_class):
    harness = make_harness(
        parts_class, cameras=('front',), one_image=False, window=0.3, tolerance=0.05
    )
    for name, verdicts in (('bad', (OK, DEFECT)), ('good', (OK, OK, OK))):
        if parts_class is TriggeredParts:
            harness.trigger(name)
        for verdict in verdicts:
            harness.verdict('front', verdict)
            harness.advance(0.1)
        harness.advance(0.7)
    assert harness.outcomes == ['reject', 'pass']
    assert not harness.faults


@pytest.mark.parametrize('parts_class', [TriggeredParts, WindowedParts])
@pytest.mark.parametrize(('one_image', 'delay'), [(True, 0.0), (False, 0.36)])
def test_a_part_passes_once_no_further_image_is_expected(
    make_harness, parts_class, one_image, delay
):
    harness = make_harness(parts_class, one_image=one_image, window=0.3, tolerance=0.05)
    if parts_class is TriggeredParts:
        harness.trigger('part')
    harness.verdict('front', OK)
    assert not harness.decisions
    harness.verdict('back', OK)
    if delay:
        harness.advance(0.34)
        assert not harness.decisions
        harness.advance(delay - 0.34)
    assert harness.outcomes == ['pass']


def test_a_certain_rejection_does_not_wait_for_the_other_cameras(make_harness):
    harness = make_harness()
    harness.trigger('part')
    harness.verdict('back', DEFECT)
    assert harness.decisions_by_name == [('part', 'reject')]
    harness.verdict('front', OK)
    harness.advance(10)
    assert not harness.faults


@pytest.mark.parametrize('decision', ['reject', 'hold'])
def test_a_part_with_a_missing_verdict_never_passes(make_harness, decision):
    harness = make_harness(on_missing=decision, timeout=1.0)
    harness.trigger('part')
    harness.verdict('front', OK)
    harness.advance(0.99)
    assert not harness.decisions
    harness.advance(0.02)
    assert harness.decisions_by_name == [('part', decision)]
    text = f'no verdict from back within 1 s (decision: {decision}); check camera and detector'
    assert harness.faults == [(text, 'part')]
    assert harness.parts.missing_verdicts == {'back': 1}


def test_a_part_without_any_verdict_never_passes(make_harness):
    harness = make_harness()
    harness.trigger('part')
    harness.advance(2)
    assert harness.decisions_by_name == [('part', 'reject')]
    assert math.isnan(harness.decisions[0].score)
    assert 'front and back' in harness.fault_texts[0]


def test_a_missing_verdict_raises_a_fault_even_if_another_camera_rejects_the_part(make_harness):
    harness = make_harness(on_missing='hold')
    harness.trigger('part')
    harness.verdict('front', DEFECT)
    harness.advance(2)
    assert harness.decisions_by_name == [('part', 'reject')]
    assert 'no verdict from back' in harness.fault_texts[0]


def test_a_part_with_a_missing_verdict_does_not_pass_even_if_it_can_no_longer_be_rejected(
    make_harness,
):
    harness = make_harness(cameras=('a', 'b', 'c'), least_defects=2, on_missing='hold')
    harness.trigger('part')
    harness.verdict('a', OK)
    harness.verdict('b', OK)
    harness.advance(2)
    assert harness.decisions_by_name == [('part', 'hold')]


def test_a_late_verdict_is_reported_and_does_not_change_the_decision(make_harness):
    harness = make_harness(cameras=('front',))
    harness.trigger('part', stamp=0.0)
    harness.advance(1.5)
    harness.verdict('front', OK, stamp=0.1)
    assert harness.decisions_by_name == [('part', 'reject')]
    assert harness.parts.counts['late verdicts'] == 1
    assert 'arrived after the decision' in harness.fault_texts[1]


def test_a_verdict_after_the_timeout_is_late_even_if_check_was_not_called(make_harness):
    harness = make_harness(cameras=('front',), timeout=1.0)
    harness.trigger('part', stamp=0.0)
    # The process was suspended.
    harness.now += 1.5
    harness.verdict('front', OK, stamp=0.1)
    assert harness.decisions_by_name == [('part', 'reject')]


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
def test_a_verdict_against_a_passed_part_raises_a_fault(make_harness, verdict, uncertain, faults):
    harness = make_harness(cameras=('front',), uncertain=uncertain)
    harness.trigger('part', stamp=0.0)
    harness.verdict('front', OK, stamp=0.1)
    harness.verdict('front', verdict, stamp=0.3)
    assert harness.decisions_by_name == [('part', 'pass')]
    assert len(harness.faults) == harness.parts.counts['late verdicts'] == faults
    assert all('has already passed' in text for text in harness.fault_texts)


def test_a_silent_camera_raises_one_fault_until_its_next_verdict(make_harness):
    harness = make_harness(WindowedParts, cameras=('front',), silence=5.0)
    harness.advance(0)
    for _ in range(3):
        harness.advance(4)
    harness.verdict('front', OK)
    harness.advance(6)
    assert harness.fault_texts == ['no verdict from front for 5 s; check camera and detector'] * 2
