# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A process keeps the memory that it frees."""

import os
import platform
import subprocess
import sys

import pytest

# Allocates and frees 32 MiB, 20 times; prints how often the system had to clear a page.
PROGRAM = """
import resource
{setting}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(2**25)
before = faults()
for _ in range(20):
    bytearray(2**25)
print(faults() - before)
"""
KEEP = 'from flow_anomaly_ros.runtime.heap import keep_freed_memory; keep_freed_memory()'


def page_faults(setting, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith('MALLOC_')}
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM.format(setting=setting)],
        env=environment | variables,
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='a setting of glibc')
def test_freed_memory_is_used_again():
    assert page_faults('') > 1000
    assert page_faults(KEEP) < 100


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='a setting of glibc')
def test_settings_of_the_environment_stay():
    assert page_faults(KEEP, MALLOC_MMAP_THRESHOLD_='1000000') > 1000
