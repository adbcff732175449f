"""`SummaryWriter`: PyTorch's methods; tensors become arrays, and tensorboardX writes the files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np

from braze.ir.dtypes import bf16
from braze.tensors import Tensor


def _array(value: Any) -> Any:
    """A tensor (or each of a list of them) as an array; anything else as it is."""
    if isinstance(value, Tensor):
        array = value.detach().numpy()
        return array.astype(np.float32) if value.dtype is bf16 else array
    if isinstance(value, (list, tuple)):
        return type(value)([_array(item) for item in value])
    return value


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


class SummaryWriter:
    """Writes events that TensorBoard shows. Giving a tensor is a sync point.

    Args:
        log_dir: the run's folder; `runs/<time>_<host>` by default. comment: added to that name.
        purge_step: where a run that crashed begins again: what it had written from there on is
            hidden.
        max_queue, flush_secs: how many events, and how long, wait to be written.
        filename_suffix: of the event file.

    Raises:
        ImportError: the package tensorboardX is not installed.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: int = 120,
        filename_suffix: str = "",
    ) -> None:
        try:
            import tensorboardX
        except ImportError as error:
            raise ImportError(
                "SummaryWriter needs the package tensorboardX; install the extra: "
                "pip install 'braze[tensorboard]'"
            ) from error
        folder = None if log_dir is None else os.fspath(log_dir)
        self._writer = tensorboardX.SummaryWriter(
            folder, comment, purge_step, max_queue, flush_secs, filename_suffix
        )
        self.log_dir: str = self._writer.logdir

    def get_logdir(self) -> str:
        """The run's folder."""
        return self.log_dir

    def _add(self, summary: Any, step: int | None, walltime: float | None) -> None:
        self._writer._get_file_writer().add_summary(summary, step, walltime)

    # Numbers --------------------------------------------------------------------------------------

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """A number of a step.  Raises: RuntimeError unless a tensor has one element."""
        self._writer.add_scalar(tag, _number(scalar_value), global_step, walltime)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: dict[str, Any],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Several numbers in one picture, each by its name."""
        values = {name: _number(value) for name, value in tag_scalar_dict.items()}
        self._writer.add_scalars(main_tag, values, global_step, walltime)

    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: int | None = None,
        bins: str = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """How the elements of a tensor are distributed."""
        if isinstance(bins, str) and bins == "tensorflow":
            bins = self._writer.default_bins
        self._writer.add_histogram(tag, _array(values), global_step, bins, walltime, max_bins)

    def add_pr_curve(
        self,
        tag: str,
        labels: Any,
        predictions: Any,
        global_step: int | None = None,
        num_thresholds: int = 127,
        weights: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Precision over recall, of labels 0 and 1 and predictions between them."""
        given = (_array(labels), _array(predictions), global_step, num_thresholds)
        self._writer.add_pr_curve(tag, *given, _array(weights), walltime)

    def add_embedding(
        self,
        mat: Any,
        metadata: Any = None,
        label_img: Any = None,
        global_step: int | None = None,
        tag: str = "default",
        metadata_header: Any = None,
    ) -> None:
        """Rows of a matrix as points, with labels."""
        given = (_array(mat), _array(metadata), _array(label_img), global_step)
        self._writer.add_embedding(*given, tag, metadata_header)

    def add_hparams(
        self,
        hparam_dict: dict[str, Any],
        metric_dict: dict[str, Any],
        hparam_domain_discrete: dict[str, list[Any]] | None = None,
        run_name: str | None = None,
        global_step: int | None = None,
    ) -> None:
        """A run's settings and what came of them, for comparing runs.

        Raises:
            TypeError: no dicts. NotImplementedError: `hparam_domain_discrete`, which tensorboardX
                does not write.
        """
        if type(hparam_dict) is not dict or type(metric_dict) is not dict:
            raise TypeError("hparam_dict and metric_dict should be dictionary.")
        if hparam_domain_discrete:
            raise NotImplementedError("tensorboardX does not write hparam_domain_discrete")
        settings = {name: _number(value) for name, value in hparam_dict.items()}
        metrics = {name: _number(value) for name, value in metric_dict.items()}
        self._writer.add_hparams(settings, metrics, run_name, global_step)

    # Pictures, sounds, text -----------------------------------------------------------------------

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """A picture: bytes, or floats in [0, 1].

        Args:
            dataformats: the order of its dimensions: "CHW", "HWC", "HW" (or with "N": a grid).
        """
        from tensorboardX.utils import convert_to_HWC

        from braze.utils.tensorboard.pictures import image_summary

        pixels = convert_to_HWC(np.asarray(_array(img_tensor)), dataformats)
        self._add(image_summary(tag, pixels), global_step, walltime)

    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """A batch of pictures as a grid."""
        if isinstance(img_tensor, list):
            img_tensor = np.stack(_array(img_tensor))
        self.add_image(tag, img_tensor, global_step, walltime, dataformats)

    def add_figure(
        self,
        tag: str,
        figure: Any,
        global_step: int | None = None,
        close: bool = True,
        walltime: float | None = None,
    ) -> None:
        """A matplotlib figure, or a list of them."""
        from tensorboardX.utils import figure_to_image

        pixels = figure_to_image(figure, close)
        order = "NCHW" if isinstance(figure, list) else "CHW"
        self.add_image(tag, pixels, global_step, walltime, order)

    def add_video(
        self,
        tag: str,
        vid_tensor: Any,
        global_step: int | None = None,
        fps: int = 4,
        walltime: float | None = None,
    ) -> None:
        """Videos [N, T, C, H, W]; needs the package moviepy."""
        self._writer.add_video(tag, _array(vid_tensor), global_step, fps, walltime)

    def add_audio(
        self,
        tag: str,
        snd_tensor: Any,
        global_step: int | None = None,
        sample_rate: int = 44100,
        walltime: float | None = None,
    ) -> None:
        """A sound, [1, length], of numbers in [-1, 1]; needs the package soundfile."""
        self._writer.add_audio(tag, _array(snd_tensor), global_step, sample_rate, walltime)

    def add_text(
        self,
        tag: str,
        text_string: str,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """A text, in Markdown."""
        self._writer.add_text(tag, text_string, global_step, walltime)

    def add_mesh(
        self,
        tag: str,
        vertices: Any,
        colors: Any = None,
        faces: Any = None,
        config_dict: Any = None,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Points or triangles in space: vertices [N, points, 3], colors and faces alike."""
        given = (_array(vertices), _array(colors), _array(faces), config_dict, global_step)
        self._writer.add_mesh(tag, *given, walltime)

    def add_custom_scalars(self, layout: Any) -> None:
        """How the scalars are arranged in pictures."""
        self._writer.add_custom_scalars(layout)

    # The model ------------------------------------------------------------------------------------

    def add_graph(
        self,
        model: Any,
        input_to_model: Any = None,
        verbose: bool = False,
        use_strict_trace: bool = True,
    ) -> None:
        """The operations of a model, as Braze captures them from one call.

        Args:
            input_to_model: an example input, or a sequence of them. verbose: print the graph, too.

        Raises:
            RuntimeError: the model reads values while it runs, so that it is not one graph.
            TypeError: there is no input.
        """
        from tensorboardX.proto.event_pb2 import Event

        from braze.tracing import trace
        from braze.utils.tensorboard.pictures import graph_definition

        if input_to_model is None:
            raise TypeError("add_graph needs an input for the model")
        single = isinstance(input_to_model, Tensor)
        inputs: Sequence[Any] = [input_to_model] if single else list(input_to_model)
        graph = trace(model, inputs, name=type(model).__name__).graph
        if verbose:
            print(graph)
        event = Event(graph_def=graph_definition(graph).SerializeToString())
        self._writer._get_file_writer().add_event(event)

    # The file -------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Have all events in the file."""
        self._writer.flush()

    def close(self) -> None:
        """Write what waits, and end the file."""
        self._writer.close()

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
