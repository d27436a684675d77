# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A file is replaced completely or not at all."""

import os

from flow_anomaly_ros.data.atomic import atomic_write


def test_a_file_is_hidden_until_it_is_complete(tmp_path):
    path = tmp_path / 'image.png'
    with atomic_write(path) as temporary:
        temporary.write_bytes(b'partial')
        assert temporary.name.startswith('.')
        assert list(tmp_path.iterdir()) == [temporary]
        temporary.write_bytes(b'complete')
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b'complete'


def test_two_processes_do_not_write_to_the_same_temporary_file(tmp_path, monkeypatch):
    names = set()
    for process in (7, 8):
        monkeypatch.setattr(os, 'getpid', lambda process=process: process)
        with atomic_write(tmp_path / 'image.png') as temporary:
            temporary.touch()
            names.add(temporary.name)
    assert len(names) == 2
