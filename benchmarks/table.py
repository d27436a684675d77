# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The results of `accuracy.py` as Markdown: how methods rank images, and how they decide."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
import functools
import json
from pathlib import Path
from statistics import mean, stdev

from flow_anomaly_ros.scoring.metrics import auroc, recall_at_fpr
from flow_anomaly_ros.scoring.ranking import FPRS
import numpy as np

RANKING = {
    'image_auroc': 'image AUROC',
    'pixel_auroc': 'pixel AUROC',
    'aupro': 'AUPRO',
    'aupimo': 'AUPIMO',
    'pointing_game': 'pointing game',
    'auroc_outside_defects': 'AUROC outside defects',
}
# Of these a table has means over all sets.
MEANS = ('image_auroc', 'pixel_auroc', 'aupro', 'aupimo', 'pointing_game')
RESAMPLINGS = 1000
# A limit that fewer good images exceed hangs on the highest score, which no resampling exceeds.
MIN_REJECTED = 5

Run = dict
# Runs of all seeds, by set and method.
Results = dict[tuple[str, str], list[Run]]


def table(folder: Path, first: Iterable[str]) -> str:
    """Summarise all runs in a folder, two tables per number of good images.

    Args:
        folder: Where the runs are.
        first: Methods, or rows of an ablation, that come first, in this order.
    """
    results: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for path in sorted(folder.glob('*.json')):
        data, images, method, _ = path.stem.rsplit('-', 3)
        results[images, data, method].append(json.loads(path.read_text()))
    return '\n\n'.join(
        make({(d, m): r for (i, d, m), r in results.items() if i == images}, images, [*first])
        for images in sorted({images for images, *_ in results})
        for make in (_ranking_table, _verdict_table)
    )


def confidence_interval(
    runs: Sequence[Run], metric: Callable[[np.ndarray, np.ndarray], float]
) -> tuple[float, float]:
    """95 % bootstrap interval of a metric's mean over seeds, of resampled seeds and images.

    Good and defective images are resampled separately; all seeds see the same ones.
    """
    generator = np.random.default_rng(0)
    scores = np.array([[score for score, _ in run['rows']] for run in runs])
    labels = np.array([label for _, label in runs[0]['rows']], dtype=bool)
    groups = [np.flatnonzero(labels == label) for label in (False, True)]
    means = []
    for _ in range(RESAMPLINGS):
        images = np.concatenate([generator.choice(group, len(group)) for group in groups])
        seeds = generator.integers(len(runs), size=len(runs))
        means.append(np.mean([metric(scores[seed, images], labels[images]) for seed in seeds]))
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def _ranking_table(results: Results, images: str, first: Sequence[str]) -> str:
    heads = [
        f'good images: {images}',
        'set',
        *RANKING.values(),
        *(f'recall at {100 * fpr:.0f} % FPR' for fpr in FPRS),
        's',
        'ms',
    ]

    def row(runs: list[Run]) -> list[str]:
        cells = [_spread([run.get(key) for run in runs]) for key in RANKING]
        cells[0] += _interval(runs, auroc)
        cells += [
            _spread(recalls)
            + _interval(runs, functools.partial(recall_at_fpr, fpr=fpr), round(MIN_REJECTED / fpr))
            for recalls, fpr in zip(_recalls(runs), FPRS, strict=True)
        ]
        return [*cells, *(_mean(runs, key) for key in ('seconds', 'milliseconds'))]

    def mean_row(sets: list[list[Run]]) -> list[str]:
        cells = [
            _mean_over_sets([[run.get(key) for run in runs] for runs in sets]) for key in MEANS
        ]
        recalls = [
            _mean_over_sets([*of_sets]) for of_sets in zip(*map(_recalls, sets), strict=True)
        ]
        return [*cells, *[''] * (len(RANKING) - len(MEANS)), *recalls, '', '']

    return _table(results, heads, first, row, mean_row)


def _verdict_table(results: Results, images: str, first: Sequence[str]) -> str:
    """Those of our own methods; other methods set no thresholds."""
    own = {key: runs for key, runs in results.items() if all('confusion' in run for run in runs)}
    heads = [
        f'good images: {images}',
        'set',
        *(f'recall, FPR at the threshold for {100 * fpr:.0f} %' for fpr in FPRS),
        'precision',
        'recall',
        'good: ok, uncertain, defect',
        'defective: ok, uncertain, defect',
    ]

    def row(runs: list[Run]) -> list[str]:
        cells = [
            ', '.join(_spread([run['calibrated'][i][j] for run in runs]) for j in range(2))
            for i in range(len(FPRS))
        ]
        cells += [_spread([run[key] for run in runs]) for key in ('precision', 'recall')]
        for truth in ('good', 'defective'):
            counts = [
                mean(run['confusion'][truth][verdict] for run in runs)
                for verdict in ('ok', 'uncertain', 'defect')
            ]
            cells.append(', '.join(f'{count:.0f}' for count in counts))
        return cells

    return _table(own, heads, first, row) if own else ''


def _table(
    results: Results,
    heads: Sequence[str],
    first: Sequence[str],
    row: Callable[[list[Run]], list[str]],
    mean_row: Callable[[list[list[Run]]], list[str]] | None = None,
) -> str:
    sets = sorted({data for data, _ in results})
    methods = sorted(
        {method for _, method in results},
        key=lambda m: (first.index(m) if m in first else len(first), m),
    )
    lines = [heads, ['---'] * len(heads)]
    for method in methods:
        found = {data: results[data, method] for data in sets if (data, method) in results}
        lines += [[method, data, *row(runs)] for data, runs in found.items()]
        if mean_row and len(found) == len(sets) > 1:
            lines.append([f'**{method}**', '**mean**', *mean_row([*found.values()])])
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def _recalls(runs: list[Run]) -> list[list[float | None]]:
    """Recalls of all runs at each of `FPRS`; None where an earlier version did not measure them."""
    unknown = [None] * len(FPRS)
    return [[(run.get('recall_at_fpr') or unknown)[i] for run in runs] for i in range(len(FPRS))]


def _mean_over_sets(sets: Sequence[Sequence[float | None]]) -> str:
    """Mean over sets, and its spread over seeds; of each set the values of all seeds."""
    means = []
    # As many seeds as every set has.
    for of_seed in zip(*sets, strict=False):
        known = [value for value in of_seed if value is not None]
        means.append(mean(known) if len(known) == len(of_seed) else None)
    return _spread(means)


def _interval(
    runs: list[Run], metric: Callable[[np.ndarray, np.ndarray], float], min_good: int = 1
) -> str:
    """The confidence interval in brackets; empty with too few good images for one."""
    if any('rows' not in run for run in runs):
        return ''
    good = sum(not label for _, label in runs[0]['rows'])
    if good < min_good or good == len(runs[0]['rows']):
        return ''
    low, high = confidence_interval(runs, metric)
    return f' ({100 * low:.0f} to {100 * high:.0f})'


def _mean(runs: list[Run], key: str) -> str:
    return f'{mean(run[key] for run in runs):.0f}' if key in runs[0] else ''


def _spread(values: Sequence[float | None]) -> str:
    """Mean and standard deviation over seeds, in percent; empty if a value is missing."""
    known = [100 * value for value in values if value is not None]
    if len(known) < len(values):
        return ''
    return f'{known[0]:.1f}' if len(known) == 1 else f'{mean(known):.1f} ± {stdev(known):.1f}'
