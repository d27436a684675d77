# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Handing a model to a detector, and what it says to that."""

import pytest

pytest.importorskip('rclpy')

from flow_anomaly_ros.nodes.model_client import ModelClient
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
import rclpy
from std_srvs.srv import Trigger

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(
    ('refusal', 'failure', 'expected'),
    [
        ('no such camera', '', (False, 'detector press refused the model: no such camera')),
        ('', 'broken', (False, 'detector press cannot load the model: broken')),
        ('', '', (True, 'detector press: ')),
    ],
)
def test_the_result_of_loading_the_model_is_reported(
    spinner, wait_for, monkeypatch, refusal, failure, expected
):
    asked = []

    def set_parameters(request, response):
        asked.extend(
            (parameter.name, parameter.value.string_value) for parameter in request.parameters
        )
        response.results = [SetParametersResult(successful=not refusal, reason=refusal)]
        return response

    def load_model(_request, response):
        response.success, response.message = not failure, failure
        return response

    monkeypatch.setattr('flow_anomaly_ros.nodes.model_client.SERVICE_TIMEOUT_S', 60.0)
    detector = rclpy.create_node('other')
    detector.create_service(SetParameters, 'press/set_parameters', set_parameters)
    detector.create_service(Trigger, 'press/front/load_model', load_model)
    spinner.add(detector)
    node = spinner.add(rclpy.create_node('node'))
    answers = []
    client = ModelClient(node, 'press', 'front', lambda *answer: answers.append(answer))
    client.load('/models/nut')
    wait_for(lambda: client.check() or answers, what='an answer')
    assert answers == [expected]
    assert asked == [('front.model', '/models/nut')]
    assert not client.is_busy
