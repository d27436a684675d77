# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Inspects images and prints their verdicts."""

import argparse
from collections.abc import Iterator, Sequence
import math
from pathlib import Path
import sys

from flow_anomaly_ros import data_parallel
from flow_anomaly_ros.commands.actions.incompatible_images import warn_incompatible_image
from flow_anomaly_ros.data.images import ImageReadError, list_images, read_image, write_image
from flow_anomaly_ros.data.output_files import make_folder, require_writable, write_json
from flow_anomaly_ros.runtime.device import limit_threads
from flow_anomaly_ros.runtime.engine import Criteria, Engine, Inspection
from flow_anomaly_ros.runtime.inspection_pictures import explanation, inspection_strip, unique_name

SHOWN_REGIONS = 3


def run(arguments: argparse.Namespace) -> int:
    """Inspect images, print a line for each, write masks and pictures.

    Each of several processes inspects its share, and rank 0 writes the results of all.

    Returns:
        1 when an image could not be read, 0 otherwise.

    Raises:
        ValueError: Bad model or output, or no images at all.
    """
    paths = list(image_paths(arguments.images))
    if arguments.explain and not arguments.output:
        msg = '--explain needs a folder for its pictures: add --output DIR'
        raise ValueError(msg)
    if arguments.json:
        require_writable(arguments.json)
    limit_threads(arguments.threads)
    engine = Engine.load(arguments.model, arguments.device, arguments.precision, arguments.compile)
    thresholds = [each.override(rule=arguments.mask_rule) for each in engine.manifest.thresholds]
    criteria = [Criteria(tuple(thresholds), part_class=arguments.part_class)]
    # A wrong class is reported before images are read.
    engine.manifest.class_index(arguments.part_class)
    if arguments.output:
        make_folder(arguments.output)
        if any(folder.samefile(arguments.output) for folder in {path.parent for path in paths}):
            msg = (
                f'the pictures would be written into the input folder {arguments.output} and '
                'inspected on the next run: choose another folder'
            )
            raise ValueError(msg)

    taken: set[str] = set()
    warned: set[str] = set()
    # Names of pictures depend on the arguments alone, so that all processes agree on them.
    names = [unique_name(path.stem, taken) for path in paths]
    # By image index, for the images of this process.
    inspected: dict[int, dict[str, object]] = {}
    unreadable: dict[int, str] = {}
    for index in range(data_parallel.rank(), len(paths), data_parallel.world_size()):
        path = paths[index]
        try:
            image = read_image(path)
        except ImageReadError as error:
            unreadable[index] = str(error)
            print(error, file=sys.stderr)
            continue
        warn_incompatible_image(path, image, engine.manifest, warned)
        inspection = engine.inspect([image], criteria)[0]
        print(describe(path, inspection), flush=True)
        if arguments.json:
            inspected[index] = _to_dict(path, inspection)
        if arguments.output:
            name = names[index]
            strip = inspection_strip(image, inspection)
            write_image(arguments.output / f'{name}.mask.png', inspection.mask)
            write_image(arguments.output / f'{name}.strip.png', strip)
            if arguments.explain:
                picture = explanation(engine, image, inspection)
                write_image(arguments.output / f'{name}.explanation.png', picture)
    images = data_parallel.all_gather_indexed(inspected)
    errors = data_parallel.all_gather_indexed(unreadable)
    if arguments.json and data_parallel.rank() == 0:
        values = {'model': str(arguments.model), 'images': images, 'unreadable': errors}
        write_json(arguments.json, values)
    # A process that exits with status 1 ends the others.
    data_parallel.barrier()
    return 1 if errors else 0


def image_paths(given: Sequence[Path]) -> Iterator[Path]:
    """Yield the given files, and the images of given folders.

    Raises:
        ValueError: A folder has no images.
    """
    for path in given:
        if not path.is_dir():
            yield path
            continue
        images = list_images(path)
        if not images:
            nested = [
                folder
                for folder in sorted(path.iterdir())
                if folder.is_dir() and list_images(folder)
            ]
            where = ', such as ' + ' '.join(map(str, nested)) if nested else ''
            msg = f'no images in folder {path}: give image files or folders with images{where}'
            raise ValueError(msg)
        yield from images


def describe(path: Path, inspection: Inspection) -> str:
    """Describe an inspection in one line: file, verdict, score and the worst regions."""
    boxes = [
        f'{region.width}x{region.height} at ({region.x}, {region.y}) {region.max_score:.4g}'
        for region in inspection.regions[:SHOWN_REGIONS]
    ]
    more = len(inspection.regions) - len(boxes)
    if more:
        boxes.append(f'{more} more')
    where = f'; {"; ".join(boxes)}' if boxes else ''
    count = f'{len(inspection.regions)} region{"" if len(inspection.regions) == 1 else "s"}'
    part_class = f'{inspection.part_class}  ' if inspection.part_class else ''
    verdict = f'{inspection.verdict:<9}  {inspection.image_score:.4g}'
    return f'{path}  {part_class}{verdict}  {count}{where}'


def _to_dict(path: Path, inspection: Inspection) -> dict[str, object]:
    """Return an inspection as values for JSON, without its score map and mask."""
    score = inspection.image_score
    return {
        'path': str(path),
        'class': inspection.part_class or None,
        'verdict': str(inspection.verdict),
        'score': score if math.isfinite(score) else None,
        'regions': [
            {
                'x': region.x,
                'y': region.y,
                'width': region.width,
                'height': region.height,
                'area': region.area,
                'max_score': region.max_score,
                'mean_score': region.mean_score,
            }
            for region in inspection.regions
        ],
        'timings_ms': inspection.timings,
    }
