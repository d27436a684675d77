# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The commands of `flow-anomaly`: each file has the arguments of one, and starts it.

The work is in `actions/`, which `run` imports: --help must not wait seconds for torch.
"""
