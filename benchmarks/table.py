# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The results of `accuracy.py` as Markdown."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
import json
from pathlib import Path
from statistics import mean, stdev

METRICS = {'image_auroc': 'image AUROC', 'pixel_auroc': 'pixel AUROC', 'aupro': 'AUPRO'}


def table(folder: Path, first: Iterable[str]) -> str:
    """Summarise all runs in a folder, one table per number of good images.

    Args:
        folder: Where the runs are.
        first: Methods, or rows of an ablation, that come first, in this order.
    """
    results: dict[tuple[str, str, str], list[dict]] = defaultdict(list)
    for path in sorted(folder.glob('*.json')):
        data, images, method, _ = path.stem.rsplit('-', 3)
        results[images, data, method].append(json.loads(path.read_text()))
    return '\n\n'.join(
        _one({(d, m): r for (i, d, m), r in results.items() if i == images}, images, [*first])
        for images in sorted({images for images, *_ in results})
    )


def _one(results: dict[tuple[str, str], list[dict]], images: str, first: Sequence[str]) -> str:
    sets = sorted({data for data, _ in results})
    methods = sorted(
        {method for _, method in results},
        key=lambda m: (first.index(m) if m in first else len(first), m),
    )
    head = [
        'good images: ' + images,
        'set',
        *METRICS.values(),
        'false positive rate',
        'correct',
        's',
        'ms',
    ]
    lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    for method in methods:
        rows = [(data, results[data, method]) for data in sets if (data, method) in results]
        for data, runs in rows:
            lines.append(_row([method, data], runs))
        if len(rows) == len(sets):
            seeds = min(len(runs) for _, runs in rows)
            means = [
                {key: mean(runs[i][key] for _, runs in rows) for key in METRICS}
                for i in range(seeds)
            ]
            lines.append(_row([f'**{method}**', '**mean**'], means))
    return '\n'.join(lines)


def _row(names: Sequence[str], runs: list[dict]) -> str:
    texts = [*names, *(_spread([100 * run[key] for run in runs]) for key in METRICS)]
    if 'false_positive_rate' in runs[0]:
        texts.append(_spread([100 * run['false_positive_rate'] for run in runs]) + ' %')
        texts.append(f'{mean(run["right"] for run in runs):.0f} of {runs[0]["tested"]}')
    else:
        texts += ['', '']
    for key in ('seconds', 'milliseconds'):
        texts.append(f'{mean(run[key] for run in runs):.0f}' if key in runs[0] else '')
    return '| ' + ' | '.join(texts) + ' |'


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f'{values[0]:.1f}'
    return f'{mean(values):.1f} ± {stdev(values):.1f}'
