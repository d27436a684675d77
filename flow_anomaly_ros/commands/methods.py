# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`flow-anomaly methods`: list the detection methods and their options."""

import argparse

SUMMARY = 'list the detection methods and their options'
DESCRIPTION = """\
List the detection methods and their options, with defaults, types and ranges. Options are set with
train --set or --config."""
EXAMPLE = 'methods'


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(arguments: argparse.Namespace) -> int:
    """List; see `actions.methods.run`."""
    from flow_anomaly_ros.commands.actions import methods

    return methods.run(arguments)
