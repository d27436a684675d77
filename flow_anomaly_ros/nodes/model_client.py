# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Hands a model file to a running detector node."""

from collections.abc import Callable
import time

from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.task import Future
from std_srvs.srv import Trigger

# Seconds for the detector to be found, and to load, compile and warm up a model.
SERVICE_TIMEOUT_S = 5.0
LOADING_TIMEOUT_S = 300.0


class ModelClient:
    """Sets `<camera>.model` of a detector and has it loaded, without waiting.

    Args:
        node: The node that calls.
        detector: Name of the detector node.
        camera: Camera name.
        done: Called with whether it succeeded, and what the detector said.
    """

    def __init__(
        self, node: Node, detector: str, camera: str, done: Callable[[bool, str], None]
    ) -> None:
        self._node = node
        self._detector = detector
        self._camera = camera
        self._done = done
        self._parameters = node.create_client(SetParameters, f'{detector}/set_parameters')
        self._loading = node.create_client(Trigger, f'{detector}/{camera}/load_model')
        self._model = ''
        self._deadline = 0.0
        self._is_asked = False
        self.is_busy = False

    def load(self, model: str) -> None:
        """Begin to hand over a model file, given by its absolute path."""
        self._model = model
        self._deadline = time.monotonic() + SERVICE_TIMEOUT_S
        self._is_asked = False
        self.is_busy = True
        self.check()

    def check(self) -> None:
        """Go on when the detector is there, or give up; to be called often while `is_busy`."""
        if not self.is_busy:
            return
        is_there = self._parameters.service_is_ready() and self._loading.service_is_ready()
        if is_there and not self._is_asked:
            self._is_asked = True
            self._deadline = time.monotonic() + LOADING_TIMEOUT_S
            value = RosParameter(f'{self._camera}.model', value=self._model).to_parameter_msg()
            request = SetParameters.Request(parameters=[value])
            self._parameters.call_async(request).add_done_callback(self._on_parameter_set)
        elif time.monotonic() > self._deadline:
            what = 'does not answer' if self._is_asked else 'is not there'
            self._finish(False, f'detector {self._detector} {what}: {self._model} is not loaded')

    def cancel(self) -> None:
        """Wait no longer; what the detector answers is not told."""
        self.is_busy = False

    def destroy(self) -> None:
        """Remove its clients."""
        self._node.destroy_client(self._parameters)
        self._node.destroy_client(self._loading)

    def _on_parameter_set(self, answer: Future) -> None:
        result = answer.result().results[0]
        if not result.successful:
            self._finish(False, f'detector {self._detector} refuses the model: {result.reason}')
        elif self.is_busy:
            self._loading.call_async(Trigger.Request()).add_done_callback(self._on_loaded)

    def _on_loaded(self, answer: Future) -> None:
        response = answer.result()
        what = 'loaded' if response.success else 'cannot load the model:'
        self._finish(response.success, f'detector {self._detector} {what} {response.message}')

    def _finish(self, success: bool, message: str) -> None:
        if self.is_busy:
            self.is_busy = False
            self._done(success, message)
