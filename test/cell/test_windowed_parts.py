# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parts that are recognised by the timestamps of their images."""

from flow_anomaly_ros.cell.windowed_parts import WindowedParts
from flow_anomaly_ros.scoring.thresholds import Verdict
import pytest

OK, UNCERTAIN, DEFECT = Verdict.OK, Verdict.UNCERTAIN, Verdict.DEFECT


@pytest.mark.parametrize('verdict', [OK, DEFECT])
def test_after_a_clock_jump_verdicts_are_not_assigned_to_earlier_parts(make_harness, verdict):
    harness = make_harness(WindowedParts, cameras=('front',), window=0.2)
    for stamp, current in ((10, OK), (11, verdict), (12, OK), (11, DEFECT), (12, OK)):
        harness.verdict('front', current, stamp=stamp)
        harness.advance(1)
    before = 'pass' if verdict == OK else 'reject'
    assert harness.outcomes == ['pass', before, 'pass', 'reject', 'pass']
    assert harness.fault_texts == [
        'clock of front jumped back by 1 s: check its time synchronisation'
    ]


def test_images_with_nearby_timestamps_show_the_same_part(make_harness):
    harness = make_harness(WindowedParts, window=0.3)
    harness.verdict('front', OK, stamp=0.2)
    harness.verdict('back', OK, stamp=0.0)
    assert not harness.decisions
    harness.advance(0.36)
    assert harness.decisions_by_name == [('image front', 'pass')]
    harness.advance(5)
    assert len(harness.decisions) == 1
    assert not harness.faults


def test_the_worst_verdict_of_a_camera_within_a_window_counts(make_harness):
    harness = make_harness(WindowedParts, cameras=('front',), window=0.3, uncertain='hold')
    harness.verdict('front', OK)
    harness.advance(0.1)
    harness.verdict('front', UNCERTAIN)
    harness.advance(0.1)
    harness.verdict('front', OK)
    harness.advance(0.3)
    assert harness.decisions_by_name == [('image front', 'hold')]


def test_the_tolerance_leaves_time_to_inspect_an_image_at_the_end_of_the_window(make_harness):
    harness = make_harness(WindowedParts, cameras=('front',), window=0.3, tolerance=0.1)
    harness.verdict('front', OK, stamp=0.0)
    harness.advance(0.35)
    assert not harness.decisions
    harness.verdict('front', DEFECT, stamp=0.29)
    assert harness.decisions_by_name == [('image front', 'reject')]


def test_an_image_between_two_parts_belongs_to_the_nearer_one(make_harness):
    harness = make_harness(WindowedParts, window=0.5)
    harness.verdict('front', OK, stamp=0.0)
    harness.verdict('front', OK, stamp=0.8)
    harness.verdict('back', OK, stamp=0.35)
    harness.advance(2)
    assert harness.decisions_by_name == [('image front', 'pass'), ('image front', 'reject')]


def test_a_defect_rejects_the_part_before_the_window_closes(make_harness):
    harness = make_harness(WindowedParts)
    harness.verdict('back', DEFECT)
    assert harness.decisions_by_name == [('image back', 'reject')]


def test_a_part_that_one_camera_missed_never_passes(make_harness):
    harness = make_harness(WindowedParts, on_missing='hold')
    harness.verdict('back', OK)
    harness.advance(0.9)
    assert not harness.decisions
    harness.advance(0.2)
    assert harness.decisions_by_name == [('image back', 'hold')]
    assert harness.parts.missing_verdicts == {'front': 1}


def test_after_a_window_ok_verdicts_are_ignored_but_a_defect_never_is(make_harness):
    harness = make_harness(WindowedParts, cameras=('front',), window=0.2, debounce=0.5)
    harness.verdict('front', OK)
    harness.advance(0.4)
    assert harness.decisions_by_name == [('image front', 'pass')]
    harness.verdict('front', OK)
    harness.advance(0.2)
    assert len(harness.decisions) == 1
    assert harness.parts.counts['bounced verdicts'] == 1
    harness.verdict('front', DEFECT)
    assert harness.decisions_by_name[1:] == [('image front', 'reject')]


@pytest.mark.parametrize(
    ('uncertain', 'decisions'),
    [('reject', ['pass', 'reject']), ('hold', ['pass', 'hold']), ('pass', ['pass'])],
)
def test_after_a_window_an_uncertain_verdict_is_ignored_only_if_it_counts_as_ok(
    make_harness, uncertain, decisions
):
    harness = make_harness(
        WindowedParts, cameras=('front',), window=0.2, debounce=0.5, uncertain=uncertain
    )
    harness.verdict('front', OK)
    harness.advance(0.4)
    harness.verdict('front', UNCERTAIN)
    harness.advance(0.4)
    assert harness.outcomes == decisions


def test_after_a_window_ok_verdicts_are_ignored_even_while_the_part_is_pending(make_harness):
    harness = make_harness(WindowedParts, window=0.2, debounce=0.5)
    harness.verdict('front', OK, stamp=0.0)
    harness.verdict('front', OK, stamp=0.4)
    assert harness.parts.counts == {'parts': 1, 'bounced verdicts': 1}


@pytest.mark.parametrize('cycle', [0.5, 3.0])
@pytest.mark.parametrize('cameras', [('front',), ('front', 'back')])
def test_parts_are_told_apart_while_timestamps_do_not_advance(make_harness, cameras, cycle):
    harness = make_harness(WindowedParts, cameras=cameras, window=0.2)
    for verdict in (OK, DEFECT, DEFECT, OK):
        for camera in cameras:
            harness.verdict(camera, verdict, stamp=7)
        harness.advance(cycle)
    assert harness.outcomes == ['pass', 'reject', 'reject', 'reject']
    # One fault per camera.
    assert len(harness.faults) == len(cameras)
    assert all(
        'timestamps from' in text and 'do not advance' in text for text in harness.fault_texts
    )
    for camera in cameras:
        harness.verdict(camera, OK, stamp=20)
    harness.advance(cycle)
    assert harness.outcomes[-1] == 'pass'
