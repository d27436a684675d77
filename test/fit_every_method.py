# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Train every method, tiny, in one process or several; then run commands in the same ones."""

import hashlib
import json
from pathlib import Path
import runpy
import sys

from flow_anomaly_ros import cli, data_parallel
import torch

# Before the processes join: in some runs, one that imported it afterwards aborted when it exited.
import torchvision  # noqa: F401

TEST_METHODS = runpy.run_path(str(Path(__file__).parent / 'detectors' / 'test_methods.py'))
RESTORATION = TEST_METHODS['OPTIONS']['restoration'][1]
# The more steps, the more rounding shows.
MAX_STEPS = 8


def shortened(options):
    """Return options with no more than so many steps.

    Those of int8 keep the stages of several networks as long as they are: what lies between two
    whole numbers is rounded to either, and while little has been learned that changes much.
    """
    if options.get('int8'):
        return {k: min(v, MAX_STEPS) if k == 'steps' else v for k, v in options.items()}
    return TEST_METHODS['limit_steps'](options, MAX_STEPS)


CASES = [
    *((method, shortened(options)) for method, options in TEST_METHODS['CASES']),
    # Stops by itself, early.
    (
        'restoration',
        {
            **RESTORATION,
            'reference_images': ['memory_bank', 'nearest'],
            'constraint': 'similarity',
            'first_threshold': 0.34,
            'flow_steps': 8,
        },
    ),
    # Adds a scale.
    (
        'restoration',
        {
            **RESTORATION,
            'reverse': 'trained',
            'align': 'always',
            'second_threshold': 0.85,
            'added_side': 'larger',
            'max_scales': 3,
        },
    ),
]
# Of a step's three samples, one process has one and the other has two.
BATCH = 3


def fit(case, batch):
    """Train with so many samples in a step, where it can be done in double precision.

    In single precision, rounding soon makes two trainings of some methods differ, also in one
    process: they sort similarities into levels, and weigh by exponential functions.
    Restoration stores features in half precision, and is not that sensitive.

    Returns:
        The losses, the notes, scores of a good and of a stained image, and a digest of the state.
    """
    torch.set_default_dtype(torch.float32 if case[0] == 'restoration' else torch.float64)
    try:
        images = TEST_METHODS['good_images'](4)
        detector = TEST_METHODS['build'](case)
        # Even where the method wants more for its batch normalisation.
        object.__setattr__(detector.config, 'batch', batch)
        report = TEST_METHODS['fit'](case, detector, images, 3)
        shown = images[:2].clone()
        shown[1, :, 8:16, 24:32] = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
        with torch.no_grad():
            scores = detector(shown).image_score.tolist()
    finally:
        torch.set_default_dtype(torch.float32)
    digest = hashlib.sha256()
    for values in detector.state_dict().values():
        digest.update(values.contiguous().numpy().tobytes())
    return {
        'case': case[0],
        'losses': report.losses,
        'notes': report.notes,
        'scores': scores,
        'digest': digest.hexdigest(),
    }


def fit_all():
    """Train all cases; and the last one of every method with fewer samples than processes."""
    torch.set_num_threads(1)
    few = [fit(case, 1) for case in dict(CASES).items()]
    return [fit(case, BATCH) for case in CASES], few


if __name__ == '__main__':
    target, commands = sys.argv[1:]
    with data_parallel.process_group():
        results = fit_all(), [cli.main(command) for command in json.loads(commands)]
        everyone = data_parallel.all_gather_object(results)
        if data_parallel.rank() == 0:
            Path(target).write_text(json.dumps(everyone))
