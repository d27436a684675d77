# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Has a running detector node load a model file."""

from collections.abc import Callable
import time

from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.task import Future
from std_srvs.srv import Trigger

# Seconds for the detector to be discovered, and to load, compile and warm up a model.
SERVICE_TIMEOUT_S = 5.0
LOADING_TIMEOUT_S = 300.0


class ModelClient:
    """Sets `<camera>.model` of a detector and calls its ~/<camera>/load_model, without blocking.

    Args:
        node: The node that calls.
        detector: Name of the detector node.
        camera: Camera name.
        done: Called with the success and a message, one line.
    """

    def __init__(
        self, node: Node, detector: str, camera: str, done: Callable[[bool, str], None]
    ) -> None:
        self._node = node
        self._detector = detector
        self._camera = camera
        self._done = done
        self._set_parameters = node.create_client(SetParameters, f'{detector}/set_parameters')
        self._load_model = node.create_client(Trigger, f'{detector}/{camera}/load_model')
        self._model = ''
        self._deadline = 0.0
        self._is_called = False
        self.is_busy = False

    def load(self, model: str) -> None:
        """Start loading a model file, given by its absolute path."""
        self._model = model
        self._deadline = time.monotonic() + SERVICE_TIMEOUT_S
        self._is_called = False
        self.is_busy = True
        self.check()

    def check(self) -> None:
        """Continue once the detector is discovered, or time out; call it often while `is_busy`."""
        if not self.is_busy:
            return
        is_ready = self._set_parameters.service_is_ready() and self._load_model.service_is_ready()
        if is_ready and not self._is_called:
            self._is_called = True
            self._deadline = time.monotonic() + LOADING_TIMEOUT_S
            value = RosParameter(f'{self._camera}.model', value=self._model).to_parameter_msg()
            request = SetParameters.Request(parameters=[value])
            self._set_parameters.call_async(request).add_done_callback(self._on_parameter_set)
        elif time.monotonic() > self._deadline:
            problem = 'did not respond' if self._is_called else 'was not found'
            self._finish(False, f'detector {self._detector} {problem}: {self._model} is not loaded')

    def cancel(self) -> None:
        """Stop waiting; a later response of the detector is ignored."""
        self.is_busy = False

    def destroy(self) -> None:
        """Remove the service clients."""
        self._node.destroy_client(self._set_parameters)
        self._node.destroy_client(self._load_model)

    def _on_parameter_set(self, answer: Future) -> None:
        result = answer.result().results[0]
        if not result.successful:
            self._finish(False, f'detector {self._detector} refused the model: {result.reason}')
        elif self.is_busy:
            self._load_model.call_async(Trigger.Request()).add_done_callback(self._on_loaded)

    def _on_loaded(self, answer: Future) -> None:
        response = answer.result()
        problem = '' if response.success else ' cannot load the model'
        message = f'detector {self._detector}{problem}: {response.message}'
        self._finish(response.success, message)

    def _finish(self, success: bool, message: str) -> None:
        if self.is_busy:
            self.is_busy = False
            self._done(success, message)
