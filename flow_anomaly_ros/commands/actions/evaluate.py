# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Measures how well a model tells good parts from defective ones."""

import argparse
import sys

from flow_anomaly_ros.commands.actions.incompatible_images import warn_incompatible_image
from flow_anomaly_ros.data.folder import mask_path_of, read_folder, Sample
from flow_anomaly_ros.data.images import write_image
from flow_anomaly_ros.data.output_files import make_folder, require_writable, write_json
from flow_anomaly_ros.runtime.device import limit_threads
from flow_anomaly_ros.runtime.engine import Engine, Inspection
from flow_anomaly_ros.runtime.evaluation import evaluate, Evaluation
from flow_anomaly_ros.runtime.inspection_pictures import inspection_strip, unique_name
from flow_anomaly_ros.scoring.thresholds import Verdict
import numpy as np
from tqdm import tqdm


def run(arguments: argparse.Namespace) -> int:
    """Inspect the test images of a data folder, print a table and the metrics.

    Returns:
        1 when an image could not be read, 0 otherwise.

    Raises:
        ValueError: Bad model, data or output.
    """
    samples = read_folder(arguments.data).test
    if not samples:
        where = "'test/good/' and 'test/<defect>/'"
        msg = f'no test images in {arguments.data}: put some into {where}'
        raise ValueError(msg)
    if arguments.json:
        require_writable(arguments.json)
    limit_threads(arguments.threads)
    engine = Engine.load(arguments.model, arguments.device, arguments.precision, arguments.compile)
    if arguments.pictures:
        make_folder(arguments.pictures)

    names: set[str] = set()
    warned: set[str] = set()
    # The bar is shown on a terminal only.
    with tqdm(total=len(samples), desc='evaluate', unit='image', disable=None) as bar:

        def on_image(sample: Sample, image: np.ndarray, inspection: Inspection) -> None:
            bar.update()
            warn_incompatible_image(sample.path, image, engine.manifest, warned)
            if arguments.pictures:
                strip = inspection_strip(image, inspection)
                name = unique_name(f'{sample.label}_{sample.path.stem}', names)
                write_image(arguments.pictures / f'{name}.png', strip)

        result = evaluate(engine, samples, on_image, arguments.part_class, arguments.mask_rule)
    for line in result.skipped:
        print(line, file=sys.stderr)
    if result.skipped:
        print(f'skipped {len(result.skipped)} of {len(samples)} images', file=sys.stderr)
    unmarked = [sample for sample in samples if sample.is_defect and sample.mask_path is None]
    if unmarked:
        mask = mask_path_of(arguments.data, unmarked[0].path)
        print(
            f'{len(unmarked)} defective images have no mask, such as {mask}: pixel metrics exclude '
            'them',
            file=sys.stderr,
        )
    print(table(result))
    print(_metric_lines(result))
    if result.ranking.differs_outside_defects:
        print(
            'scores tell good from defective images outside of the marked defects too (AUROC '
            f'{result.ranking.auroc_outside_defects:.2f}): lighting, texture or position may '
            'differ, or defects may be unmarked. Image AUROC and recall may be too optimistic: '
            'photograph good and defective parts alike',
            file=sys.stderr,
        )
    if arguments.json:
        about = {'model': str(arguments.model), 'data': str(arguments.data)}
        write_json(arguments.json, about | result.metrics())
    return 1 if result.skipped else 0


def table(result: Evaluation) -> str:
    """One line per label: images, correct verdicts, verdicts by kind, mean score."""
    labels = sorted({row.label for row in result.rows})
    width = max(len(label) for label in [*labels, 'label'])
    lines = [
        f'{"label":<{width}}  images  correct  {"  ".join(f"{v:>9}" for v in Verdict)}  mean score'
    ]
    for label in labels:
        rows = [row for row in result.rows if row.label == label]
        counts = [sum(row.verdict == verdict for row in rows) for verdict in Verdict]
        lines.append(
            f'{label:<{width}}  {len(rows):>6}  {sum(row.is_correct for row in rows):>7}  '
            f'{"  ".join(f"{count:>9}" for count in counts)}  '
            f'{np.mean([row.score for row in rows]):>10.4g}'
        )
    return '\n'.join(lines)


def _metric_lines(result: Evaluation) -> str:
    def text(value: float | None) -> str:
        if value is None:
            return 'not available for these images'
        return str(value) if isinstance(value, int) else f'{value:.4f}'

    metrics = result.metrics()
    # Shown by the table above.
    metrics.pop('confusion')
    return '\n'.join(f'{name:<24} {text(value)}' for name, value in metrics.items())
