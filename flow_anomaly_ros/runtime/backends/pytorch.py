# Copyright 2026 flow_anomaly_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch, the reference of all other backends."""

from collections.abc import Callable, Sequence

from flow_anomaly_ros.detectors.base import Detector, DetectorOutput
from flow_anomaly_ros.layers.feature_extraction import TRACE_LOCK
from flow_anomaly_ros.layers.inference import convert_to_channels_last, fuse_for_inference, prepack
from flow_anomaly_ros.runtime.backends.base import Backend, backend_name, class_indices, Scores
from flow_anomaly_ros.runtime.device import select_device
from flow_anomaly_ros.runtime.preprocess import to_tensor
from flow_anomaly_ros.runtime.single_thread_executor import SingleThreadExecutor
import numpy as np
import torch
from torch import Tensor


class PyTorchBackend(Backend):
    """A detector in PyTorch.

    Args:
        detector: Trained detector.
        size: (height, width) of its input in px.
        max_value: Largest pixel value of uint16 images, 1.0 inside.
        device: Device name, see `select_device`.
        precision: One of `PRECISIONS`, for networks; operations that need float32 keep it.
        compiled: Compile it (`torch.compile`, on a GPU as CUDA graphs): takes minutes at the first
            image of each batch size, and is faster from then on.

    Raises:
        ValueError: The device is not available.
    """

    def __init__(
        self,
        detector: Detector,
        size: tuple[int, int],
        max_value: int,
        device: str = 'auto',
        precision: str = 'float32',
        compiled: bool = False,
    ) -> None:
        self.device = select_device(device)
        self.name = backend_name('PyTorch' + ', compiled' * compiled, precision, str(self.device))
        self.detector = detector.to(self.device).eval()
        self._size = size
        self._max_value = max_value
        self._dtype = getattr(torch, precision)
        self.is_compiled = compiled
        self._forward: Callable[..., DetectorOutput] = self.detector
        # CUDA graphs belong to the thread that recorded them: in other threads they fail or are
        # recorded again. A model is warmed up, used and replaced from several threads.
        self._thread = SingleThreadExecutor() if compiled else None
        if compiled:
            # Constants that the first image computes are computed now: a CUDA graph would overwrite
            # its own at the next image.
            self.detect(self.prepare([np.zeros(size, np.uint8)]), [None])
            mode = 'reduce-overhead' if self.device.type == 'cuda' else 'default'
            self._forward = torch.compile(self.detector, mode=mode, dynamic=False)

    def freeze(self) -> None:
        """Optimise the detector for inference: it can no longer be saved, loaded or moved."""
        fuse_for_inference(self.detector)
        convert_to_channels_last(self.detector)
        exact_on_cpu = self.device.type == 'cpu' and self._dtype == torch.float32
        if exact_on_cpu and not self.is_compiled:
            prepack(self.detector)

    @torch.inference_mode()
    def prepare(self, images: Sequence[np.ndarray]) -> Tensor:
        """BxCxHxW float32 in [0, 1] on the device; see `Backend.prepare`."""
        channels = self.detector.config.channels
        return torch.cat(
            [
                to_tensor(image, channels, self._size, self.device, self._max_value)
                for image in images
            ]
        )

    def detect(self, batch: Tensor, classes: Sequence[int | None]) -> Scores:
        """Score a batch; see `Backend.detect`."""
        if self._thread is None:
            return self._detect(batch, classes)
        return self._thread.call(self._detect, batch, classes)

    @torch.inference_mode()
    def _detect(self, batch: Tensor, classes: Sequence[int | None]) -> Scores:
        is_reduced = self._dtype != torch.float32
        with TRACE_LOCK, torch.autocast(self.device.type, self._dtype, enabled=is_reduced):
            output = self._forward(batch, self._class_tensor(classes))
        known = np.zeros(len(batch), np.int64) if output.classes is None else output.classes.cpu()
        return Scores(
            output.score_map.float().cpu().numpy(),
            output.image_score.float().cpu().numpy(),
            np.asarray(known),
        )

    def _class_tensor(self, classes: Sequence[int | None]) -> Tensor:
        return torch.from_numpy(class_indices(classes)).to(self.device)

    @torch.inference_mode()
    def explain(
        self, image: np.ndarray, part_class: int | None = None
    ) -> list[dict[str, np.ndarray]]:
        """Return pictures of what the detector compared; see `Backend.explain`."""
        rows = self.detector.explain(self.prepare([image]), self._class_tensor([part_class]))
        return [{caption: _to_picture(x[0]) for caption, x in row.items()} for row in rows]

    def close(self) -> None:
        """Free the device's memory."""
        if self._thread is not None:
            self._thread.close()
        del self.detector, self._forward
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()


def _to_picture(image: Tensor) -> np.ndarray:
    """CxHxW in [0, 1] to HxW or HxWx3 uint8."""
    array = (255 * image.clamp(0, 1)).round().to(torch.uint8).cpu().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array)
