# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Evaluations as text for a terminal."""

from flow_anomaly_ros.runtime.evaluation import Evaluation, Row

ROW = '{image:<36} {truth:<14} {verdict:<10} {score:>8} {regions:>8} {latency:>11}  {remark}'
HEADER = ROW.format(
    image='image',
    truth='truth',
    verdict='verdict',
    score='score',
    regions='regions',
    latency='latency ms',
    remark='',
).rstrip()


def format_row(row: Row) -> str:
    """One line per image, in the columns of `HEADER`."""
    return ROW.format(
        image=f'{row.path.parent.name}/{row.path.name}',
        truth=row.label,
        verdict=row.verdict,
        score=f'{row.score:.3f}',
        regions=row.regions,
        latency=f'{row.latency_ms:.0f}',
        remark='wrong' if row.is_wrong else '',
    ).rstrip()


def format_summary(evaluation: Evaluation) -> str:
    """One line of metrics; those that cannot be computed are left out."""
    metrics = evaluation.metrics()
    counts = {
        'correct': metrics['verdicts_right'],
        'uncertain': metrics['verdicts_uncertain'],
        'wrong': metrics['verdicts_wrong'],
    }
    parts = [', '.join(f'{count} {name}' for name, count in counts.items())]
    for name, label in (
        ('image_auroc', 'image AUROC'),
        ('pixel_auroc', 'pixel AUROC'),
        ('aupro', 'AUPRO'),
        ('image_f1', 'image F1'),
    ):
        if metrics[name] is not None:
            parts.append(f'{label} {metrics[name]:.3f}')
    if metrics['latency_ms_p50'] is not None:
        parts.append(
            f'latency median {metrics["latency_ms_p50"]:.0f} ms, '
            f'p95 {metrics["latency_ms_p95"]:.0f} ms'
        )
    return '; '.join(parts)
