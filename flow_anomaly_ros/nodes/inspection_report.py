# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The inspection report node: collects inspections, compares them with the ground truth."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
import sys
import time
from typing import Any, NoReturn

from flow_anomaly_ros.data.folder import load_mask, read_folder, Sample
from flow_anomaly_ros.data.image_messages import to_array
from flow_anomaly_ros.data.images import write_image
from flow_anomaly_ros.data.output_files import make_folder
from flow_anomaly_ros.nodes.parameters import Parameter, ParameterTable, warn_of_unknown
from flow_anomaly_ros.nodes.qos import output_profile
from flow_anomaly_ros.nodes.run_node import run_node
from flow_anomaly_ros.runtime.evaluation import Evaluation, Row, summarise
from flow_anomaly_ros.runtime.inspection_pictures import unique_name
from flow_anomaly_ros.runtime.overlay import contact_strip, draw_overlay, heat_map
from flow_anomaly_ros.runtime.report import format_row, format_summary, HEADER
from flow_anomaly_ros.scoring.thresholds import Verdict
import numpy as np
import rclpy
from rclpy.client import Client
from rclpy.logging import get_logger
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification, Detection2D, Detection2DArray

# Of executable and node; parameter files and launch files may still have it.
FORMER_NAME = 'listener'
# Seconds to wait for the results of an image before it is shown again.
RESULT_TIMEOUT_S = 3.0

PARAMETERS = (
    Parameter('data', '', 'Folder in MVTec layout that the image source shows.', read_only=True),
    Parameter('camera', 'camera', 'Camera name, the prefix of the topics.', read_only=True),
    Parameter('output', '', 'Folder for pictures, empty for none.', read_only=True),
    Parameter(
        'source', 'image_source', 'Name of the image source, asked for each image.', read_only=True
    ),
    Parameter(
        'least_right',
        0.9,
        'Smallest share of right verdicts; below it the exit status is 1.',
        limits=(0.0, 1.0),
        read_only=True,
    ),
    Parameter(
        'timeout',
        60.0,
        'Seconds to wait for the first image, and for the results of each one.',
        limits=(0.1, 3600.0),
        read_only=True,
    ),
)


@dataclass(frozen=True)
class Box:
    """A region as it came over ROS: what the overlay draws."""

    x: float
    y: float
    width: float
    height: float
    max_score: float

    @classmethod
    def of(cls, detection: Detection2D) -> 'Box':
        """Read a detection; its centre is in the coordinates of pixel centres."""
        box = detection.bbox
        return cls(
            x=box.center.position.x - (box.size_x - 1) / 2,
            y=box.center.position.y - (box.size_y - 1) / 2,
            width=box.size_x,
            height=box.size_y,
            max_score=detection.results[0].hypothesis.score,
        )


@dataclass
class SynchronizedResults:
    """The messages that share one stamp.

    Attributes:
        messages: Message by topic.
        received: Time of the verdict's arrival, in nanoseconds of the node's clock.
    """

    messages: dict[str, Any] = field(default_factory=dict)
    received: int = 0


class InspectionReportNode(Node):
    """Asks an image source for one image after the other and collects the results.

    Raises:
        ValueError: No test images in the data folder; one line.
    """

    def __init__(self, name: str = 'inspection_report') -> None:
        super().__init__(name)
        self.parameters = ParameterTable(self, PARAMETERS)
        warn_of_unknown(self)
        if not self.parameters['data']:
            # Path('') would be the current folder.
            msg = 'parameter data is empty: give the folder that the image source shows'
            raise ValueError(msg)
        folder = read_folder(Path(self.parameters['data']))
        if not folder.test:
            msg = f'{folder.root} has no test images: give a folder in MVTec layout'
            raise ValueError(msg)
        self._samples = {str(sample.path.resolve()): sample for sample in folder.test}
        self._results: dict[tuple[int, int], SynchronizedResults] = {}
        camera = self.parameters['camera']
        self._topics = {
            'source': Header,
            'image': Image,
            'verdict': Classification,
            'defects': Detection2DArray,
            'mask': Image,
            'score_map': Image,
        }
        for topic, message_type in self._topics.items():
            self.create_subscription(
                message_type,
                f'{camera}/{topic}',
                partial(self._receive, topic),
                output_profile(),
            )
        self._next = self.create_client(Trigger, f'{self.parameters["source"]}/next')
        self._repeat = self.create_client(Trigger, f'{self.parameters["source"]}/repeat')

    def run(self) -> bool:
        """Go through all images, print table and summary; True if the bar is met.

        Raises:
            TimeoutError: The source or the detector did not answer in time; one line.
        """
        inspected: list[tuple[Sample, Row, dict[str, Any]]] = []
        print(HEADER, flush=True)
        while (answer := self._ask(first=not inspected)).success:
            sample = self._samples.get(str(Path(answer.message).resolve()))
            if sample is None:
                msg = f'the image source shows {answer.message}, which is not in the data folder'
                raise ValueError(msg)
            parcel = self._collect(answer.message)
            row = self._row(sample, parcel)
            inspected.append((sample, row, parcel.messages))
            print(format_row(row), flush=True)
        rows = [row for _, row, _ in inspected]
        print(f'\n{len(rows)} images: {format_summary(self._evaluate(inspected))}', flush=True)
        if self.parameters['output']:
            self._draw(inspected)
        least = self.parameters['least_right']
        right = sum(row.is_right for row in rows)
        if not rows or right < least * len(rows):
            print(
                f'below the bar: {right} of {len(rows)} verdicts are right, '
                f'{least:.0%} are required',
                file=sys.stderr,
            )
            return False
        return True

    @staticmethod
    def _evaluate(inspected: list[tuple[Sample, Row, dict[str, Any]]]) -> Evaluation:
        maps, masks = [], []
        for sample, _, messages in inspected:
            score_map = to_float_map(messages['score_map'])
            truth = load_mask(sample, score_map.shape)
            if truth is not None:
                maps.append(score_map)
                masks.append(truth)
        return summarise([row for _, row, _ in inspected], maps, masks)

    def _receive(self, topic: str, message: Any) -> None:
        header = message if topic == 'source' else message.header
        parcel = self._results.setdefault(
            (header.stamp.sec, header.stamp.nanosec), SynchronizedResults()
        )
        parcel.messages[topic] = message
        if topic == 'verdict':
            parcel.received = self.get_clock().now().nanoseconds

    def _spin_until(self, is_there: Callable[[], object], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not is_there():
            if time.monotonic() > deadline:
                return False
            rclpy.spin_once(self, timeout_sec=0.05)
        return True

    def _call(self, client: Client) -> Trigger.Response:
        timeout = self.parameters['timeout']
        if not self._spin_until(client.service_is_ready, timeout):
            msg = f'no image source offers {client.srv_name} within {timeout:g} s'
            raise TimeoutError(msg)
        future = client.call_async(Trigger.Request())
        if not self._spin_until(future.done, timeout):
            msg = f'no answer from {client.srv_name} within {timeout:g} s'
            raise TimeoutError(msg)
        return future.result()

    def _ask(self, first: bool) -> Trigger.Response:
        """Ask the source for an image; the first time until the detector listens to it."""
        deadline = time.monotonic() + self.parameters['timeout']
        while True:
            answer = self._call(self._next)
            if answer.success or not first:
                return answer
            if time.monotonic() > deadline:
                msg = f'{answer.message}: is the detector active?'
                raise TimeoutError(msg)
            rclpy.spin_once(self, timeout_sec=0.1)

    def _collect(self, name: str) -> SynchronizedResults:
        """Wait for all results of an image; have it shown again if some do not come.

        The first results may be published before discovery has matched every topic.
        """
        deadline = time.monotonic() + self.parameters['timeout']
        while True:
            self._spin_until(lambda: self._complete(name), RESULT_TIMEOUT_S)
            parcel = self._complete(name)
            if parcel:
                self._results.clear()
                return parcel
            if time.monotonic() > deadline:
                msg = f'no results for {name} within {self.parameters["timeout"]:g} s'
                raise TimeoutError(msg)
            self._call(self._repeat)

    def _complete(self, name: str) -> SynchronizedResults | None:
        for parcel in self._results.values():
            messages = parcel.messages
            if len(messages) == len(self._topics) and messages['source'].frame_id == name:
                return parcel
        return None

    def _row(self, sample: Sample, parcel: SynchronizedResults) -> Row:
        verdict = parcel.messages['verdict']
        stamp = verdict.header.stamp
        sent = stamp.sec * 10**9 + stamp.nanosec
        return Row(
            path=sample.path,
            label=sample.label,
            is_defect=sample.is_defect,
            verdict=Verdict(verdict.results[0].class_id),
            score=verdict.results[0].score,
            regions=len(parcel.messages['defects'].detections),
            latency_ms=(parcel.received - sent) / 1e6,
        )

    def _draw(self, inspected: list[tuple[Sample, Row, dict[str, Any]]]) -> None:
        output = Path(self.parameters['output'])
        make_folder(output)
        names: set[str] = set()
        # One colour scale for all, with the least score called a defect in its middle.
        defects = [row.score for _, row, _ in inspected if row.verdict == Verdict.DEFECT]
        high = 2 * min(defects or [row.score for _, row, _ in inspected])
        for sample, row, messages in inspected:
            image = to_array(messages['image'])
            mask = to_array(messages['mask'])
            boxes = [Box.of(detection) for detection in messages['defects'].detections]
            overlay = draw_overlay(image, mask, boxes, str(row.verdict), row.score)
            heat = heat_map(to_float_map(messages['score_map']), 0.0, high)
            name = unique_name(f'{sample.label}_{sample.path.stem}', names)
            pictures = {'image': image, 'score map': heat, 'mask': mask, 'overlay': overlay}
            write_image(output / f'{name}.png', contact_strip(pictures))


def to_float_map(message: Image) -> np.ndarray:
    """Read a 32FC1 image as HxW float32."""
    values = np.frombuffer(message.data, np.dtype('>f4' if message.is_bigendian else '<f4'))
    return values.reshape(message.height, message.width).astype(np.float32)


def main(args: list[str] | None = None) -> None:
    """Run until all images are inspected; exit status 0 if enough verdicts are right."""
    _run('inspection_report', args)


def listener_main(args: list[str] | None = None) -> None:
    """Run under the node's former name, which parameter files may still use."""
    _run(FORMER_NAME, args)


def _run(name: str, args: list[str] | None) -> NoReturn:
    status = run_node(name, partial(_spin, name), args)
    raise SystemExit(130 if status is None else status)


def _spin(name: str) -> int:
    if name == FORMER_NAME:
        get_logger(name).warning('listener is now called inspection_report: start that instead')
    node = InspectionReportNode(name)
    try:
        return 0 if node.run() else 1
    finally:
        node.destroy_node()


if __name__ == '__main__':
    main()
