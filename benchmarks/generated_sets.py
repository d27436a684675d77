#!/usr/bin/env python3
# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Write five sets of generated parts, each difficult in its own way, to choose defaults on.

`--half` selects one of two draws that share no part. Defaults, thresholds and numbers of steps are
chosen on `development` alone; `untouched` is for the final report. Nothing is chosen on the test
images of real sets.
"""

import argparse
from pathlib import Path

from flow_anomaly_ros.data.generated import Conditions, COVER, FLANGE, write_dataset

SEVERITY = 0.5
SETS = {
    # Play of the fixture.
    'pose': Conditions(shift=8, rotation=10, severity=SEVERITY),
    # Lamps that age and move.
    'light': Conditions(light=20, exposure=0.2, slope=0.12, severity=SEVERITY),
    # Rough turning.
    'texture': Conditions(marks=0.15, severity=SEVERITY),
    # A camera at high gain.
    'grain': Conditions(grain=4, severity=SEVERITY),
    # Two types of parts in one set.
    'types': Conditions(types=(FLANGE, COVER), severity=SEVERITY),
}
# Seeds; the halves share no part.
HALVES = {'development': 0, 'untouched': 1}
# A hundred good images, so that a recall at 1 % of them rejected means something.
COUNTS = {'train': 100, 'good': 100, 'per_defect': 10}


def main() -> None:
    """Write the sets that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--output', type=Path, required=True, help='folder for the halves')
    parser.add_argument('--half', choices=HALVES, default='development')
    parser.add_argument('--sets', nargs='+', choices=SETS, default=[*SETS])
    parser.add_argument('--size', type=int, default=256, help='height and width in px')
    arguments = parser.parse_args()
    for name in arguments.sets:
        folder = arguments.output / arguments.half / name
        seed = HALVES[arguments.half]
        write_dataset(folder, **COUNTS, size=arguments.size, seed=seed, conditions=SETS[name])
        print(folder)


if __name__ == '__main__':
    main()
