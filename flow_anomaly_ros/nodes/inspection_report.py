# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The inspection report node: compares verdicts with the ground truth of a data set."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
import sys
import time
from typing import Any, NamedTuple, NoReturn

from flow_anomaly_ros.data.folder import load_mask, read_folder, Sample
from flow_anomaly_ros.data.image_messages import score_map_to_array, to_array
from flow_anomaly_ros.data.images import write_image
from flow_anomaly_ros.data.output_files import make_folder
from flow_anomaly_ros.nodes.parameters.inspection_report import InspectionReportParameters
from flow_anomaly_ros.nodes.parameters.listener import ParameterListener, warn_unknown_parameters
from flow_anomaly_ros.nodes.qos import output_profile
from flow_anomaly_ros.nodes.run_node import run_node
from flow_anomaly_ros.nodes.stamped_results import StampedResults
from flow_anomaly_ros.nodes.stamps import nanoseconds
from flow_anomaly_ros.runtime.evaluation import Evaluation, Row, summarise
from flow_anomaly_ros.runtime.inspection_pictures import unique_name
from flow_anomaly_ros.runtime.overlay import contact_strip, draw_overlay, heat_map
from flow_anomaly_ros.runtime.report import format_row, format_summary, HEADER
from flow_anomaly_ros.scoring.thresholds import Verdict
import rclpy
from rclpy.client import Client
from rclpy.logging import get_logger
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification, Detection2D, Detection2DArray

# Former name of the node and its executable.
FORMER_NAME = 'listener'
# Seconds to wait for the results of an image before it is published again.
RESULT_TIMEOUT_S = 3.0

TOPICS: dict[str, type] = {
    'source': Header,
    'image': Image,
    'verdict': Classification,
    'defects': Detection2DArray,
    'mask': Image,
    'score_map': Image,
}


@dataclass(frozen=True)
class Box:
    """A region read from a message, as the overlay draws it; in px of the camera image."""

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


class InspectedSample(NamedTuple):
    """A sample of the data set, its row of the report and its result messages by topic."""

    sample: Sample
    row: Row
    messages: dict[str, Any]


class InspectionReportNode(Node):
    """Requests one image after the other from an image source and reports the verdicts.

    Its parameters are `InspectionReportParameters`.

    Args:
        name: Name of the node.

    Raises:
        ValueError: The data folder has no test images, or the output folder cannot be written to;
            one line.
    """

    def __init__(self, name: str = 'inspection_report') -> None:
        super().__init__(name)
        self._parameter_listener = ParameterListener(self, InspectionReportParameters)
        warn_unknown_parameters(self)
        parameters = self.parameters
        if not parameters.data:
            # Path('') would be the current folder.
            msg = 'parameter data is empty: set it to the folder that the image source publishes'
            raise ValueError(msg)
        folder = read_folder(Path(parameters.data))
        if not folder.test:
            msg = f'{folder.root} has no test images: give a folder in MVTec layout'
            raise ValueError(msg)
        if parameters.output:
            make_folder(Path(parameters.output))
        self._samples = {str(sample.path.resolve()): sample for sample in folder.test}
        self._results = StampedResults(TOPICS)
        # Arrival of verdicts on the clock of the node, by stamp, both in nanoseconds.
        self._arrivals: dict[int, int] = {}
        for topic, message_type in TOPICS.items():
            self.create_subscription(
                message_type,
                f'{parameters.camera}/{topic}',
                partial(self._receive, topic),
                output_profile(),
            )
        self._next = self.create_client(Trigger, f'{parameters.source}/next')
        self._repeat = self.create_client(Trigger, f'{parameters.source}/repeat')

    @property
    def parameters(self) -> InspectionReportParameters:
        """The present values of the parameters."""
        return self._parameter_listener.values

    def run(self) -> bool:
        """Go through all images and print a table and a summary.

        Returns:
            Whether verdicts are correct often enough and wrong seldom enough, see the parameters
            least_right and most_wrong.

        Raises:
            TimeoutError: The image source or the detector did not respond in time; one line.
            ValueError: The image source publishes an image that is not in the data folder; one
                line.
        """
        inspected: list[InspectedSample] = []
        print(HEADER, flush=True)
        while (response := self._request_image(is_first=not inspected)).success:
            path = response.message
            sample = self._samples.get(str(Path(path).resolve()))
            if sample is None:
                msg = f'the image source publishes {path}, which is not a test image of the data'
                raise ValueError(msg)
            messages = self._collect(path)
            row = self._row(sample, messages)
            inspected.append(InspectedSample(sample, row, messages))
            print(format_row(row), flush=True)
            self._arrivals.clear()
        print(f'\n{len(inspected)} images: {format_summary(_evaluate(inspected))}', flush=True)
        if self.parameters.output:
            _write_pictures(Path(self.parameters.output), inspected)
        least, most = self.parameters.least_right, self.parameters.most_wrong
        correct = sum(row.is_correct for _, row, _ in inspected)
        wrong = sum(row.is_wrong for _, row, _ in inspected)
        count = len(inspected)
        if count and correct >= least * count and wrong <= most * count:
            return True
        print(
            f'failed: of {count} verdicts {correct} are correct and {wrong} are wrong; {least:.0%} '
            f'must be correct, and at most {most:.0%} wrong',
            file=sys.stderr,
        )
        return False

    def _receive(self, topic: str, message: Any) -> None:
        header = message if topic == 'source' else message.header
        self._results.add(topic, header.stamp, message)
        if topic == 'verdict':
            self._arrivals[nanoseconds(header.stamp)] = self.get_clock().now().nanoseconds

    def _spin_until(self, condition: Callable[[], object], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            rclpy.spin_once(self, timeout_sec=0.05)
        return True

    def _call(self, client: Client) -> Trigger.Response:
        timeout = self.parameters.timeout
        if not self._spin_until(client.service_is_ready, timeout):
            msg = (
                f'service {client.srv_name} is not available after {timeout:g} s: start the source'
            )
            raise TimeoutError(msg)
        future = client.call_async(Trigger.Request())
        if not self._spin_until(future.done, timeout):
            msg = f'no response from {client.srv_name} within {timeout:g} s: is the source running?'
            raise TimeoutError(msg)
        return future.result()

    def _request_image(self, is_first: bool) -> Trigger.Response:
        """Request the next image; the first is requested until the detector subscribes."""
        deadline = time.monotonic() + self.parameters.timeout
        while True:
            response = self._call(self._next)
            if response.success or not is_first:
                return response
            if time.monotonic() > deadline:
                msg = f'{response.message}: is the detector active?'
                raise TimeoutError(msg)
            rclpy.spin_once(self, timeout_sec=0.1)

    def _collect(self, path: str) -> dict[str, Any]:
        """Wait for all results of an image; request it again if some do not arrive.

        The first results may be published before discovery has matched every topic.
        """
        timeout = self.parameters.timeout
        deadline = time.monotonic() + timeout
        while True:
            self._spin_until(lambda: self._results_of(path), RESULT_TIMEOUT_S)
            if messages := self._results_of(path):
                self._results.clear()
                return messages
            if time.monotonic() > deadline:
                msg = f'no results for {path} within {timeout:g} s: is the detector active?'
                raise TimeoutError(msg)
            self._call(self._repeat)

    def _results_of(self, path: str) -> dict[str, Any] | None:
        for messages in self._results.complete():
            if messages['source'].frame_id == path:
                return messages
        return None

    def _row(self, sample: Sample, messages: dict[str, Any]) -> Row:
        verdict = messages['verdict']
        sent = nanoseconds(verdict.header.stamp)
        return Row(
            path=sample.path,
            label=sample.label,
            is_defect=sample.is_defect,
            verdict=Verdict(verdict.results[0].class_id),
            score=verdict.results[0].score,
            regions=len(messages['defects'].detections),
            latency_ms=(self._arrivals[sent] - sent) / 1e6,
        )


def _evaluate(inspected: list[InspectedSample]) -> Evaluation:
    maps, masks = [], []
    for sample, _, messages in inspected:
        score_map = score_map_to_array(messages['score_map'])
        truth = load_mask(sample, score_map.shape)
        if truth is not None:
            maps.append(score_map)
            masks.append(truth)
    return summarise([row for _, row, _ in inspected], maps, masks)


def _write_pictures(folder: Path, inspected: list[InspectedSample]) -> None:
    # All score maps have one colour scale, with the lowest score of a defect in its middle.
    defects = [row.score for _, row, _ in inspected if row.verdict == Verdict.DEFECT]
    high = 2 * min(defects or [row.score for _, row, _ in inspected])
    names: set[str] = set()
    for sample, row, messages in inspected:
        image, mask = to_array(messages['image']), to_array(messages['mask'])
        boxes = [Box.of(detection) for detection in messages['defects'].detections]
        pictures = {
            'image': image,
            'score map': heat_map(score_map_to_array(messages['score_map']), 0.0, high),
            'mask': mask,
            'overlay': draw_overlay(image, mask, boxes, str(row.verdict), row.score),
        }
        name = unique_name(f'{sample.label}_{sample.path.stem}', names)
        write_image(folder / f'{name}.png', contact_strip(pictures))


def main(args: list[str] | None = None) -> None:
    """Run until all images are inspected; exit status 0 if enough verdicts are correct."""
    _run('inspection_report', args)


def listener_main(args: list[str] | None = None) -> None:
    """Run under the node's former name, which parameter files and remappings may still use."""
    _run(FORMER_NAME, args)


def _run(name: str, args: list[str] | None) -> NoReturn:
    status = run_node(name, partial(_spin, name), args)
    raise SystemExit(130 if status is None else status)


def _spin(name: str) -> int:
    if name == FORMER_NAME:
        get_logger(name).warning(
            'listener is now called inspection_report: run that executable, and rename the node in '
            'parameter files and remappings'
        )
    node = InspectionReportNode(name)
    try:
        return 0 if node.run() else 1
    finally:
        node.destroy_node()


if __name__ == '__main__':
    main()
