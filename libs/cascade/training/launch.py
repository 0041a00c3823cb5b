"""One training in several processes of this machine, by torch's own launcher, as `torchrun --standalone` starts them.

The caller's function runs in each of them with the same arguments; tables and models travel through files, which the
processes map. The first process gives back the model and the report. Where one fails all are stopped, and its error is
raised here.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from cascade.files import replacing
from cascade.training import errors, ranks
from cascade.training.device import choose_device
from cascade.training.errors import TrainingError, TrainingInputError, TrainingProcessError
from cascade.training.loop import Progress, TrainingReport

_MODEL, _REPORT, _PROGRESS, _FAILURE = "model", "report.json", "progress.json", "failure.json"
_TELL_EVERY = 100
"""Times that progress is told of one training."""
_LOOK_EVERY_S = 0.2


class Kept(Protocol):
    """What a folder can hold: a table, a model."""

    def save(self, folder: Path) -> None: ...
    @classmethod
    def load(cls, folder: Path) -> Self: ...


Model = TypeVar("Model", bound=Kept)


def processes(wanted: int | Literal["auto"], device: str = "auto") -> int:
    """How many processes train: `auto` is one for each GPU. Raises TrainingInputError where a GPU is too few."""
    gpus = torch.cuda.device_count() if choose_device(device).type == "cuda" else 0
    if wanted == "auto":
        return max(1, gpus)
    if wanted < 1 or (gpus and wanted > gpus):
        raise TrainingInputError(f"{wanted} processes were asked for and there are {gpus} GPUs; give at most as many")
    return wanted


def together(
    function: Callable[..., tuple[Model, TrainingReport]],
    count: int,
    model: type[Model],
    *arguments: Any,
    device: str,
    checkpoint_dir: Path | None,
    progress: Progress | None,
    **options: Any,
) -> tuple[Model, TrainingReport]:
    """What `function` gives, computed by `count` processes.

    function: found by its name; it takes the arguments, the options, and the three that stand before them, and asks
    `ranks.current()` for its part. model: of what it returns. checkpoint_dir: also where the processes' files lie.
    Raises the error of the process that failed first, where it is one of this package's, otherwise
    TrainingProcessError with its message.
    """
    if checkpoint_dir is not None:
        checkpoint_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".processes-", dir=checkpoint_dir) as scratch:
        folder = Path(scratch)
        work = _Work(
            function,
            [_stored(one, folder / f"argument-{n}") for n, one in enumerate(arguments)],
            {name: _stored(one, folder / f"option-{name}") for name, one in options.items()}
            | {"device": device, "checkpoint_dir": checkpoint_dir},
            folder,
        )
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,  # what fails once fails again; a training that was stopped continues from its checkpoint
            logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs")),
        )
        try:
            with _followed(folder / _PROGRESS, progress), _own_signal_handlers():
                elastic_launch(config, _work)(work)
        except ChildFailedError as error:
            raise _what_failed(error, folder, count) from error
        return model.load(folder / _MODEL), TrainingReport.from_dict(json.loads((folder / _REPORT).read_text()))


@dataclass(frozen=True)
class _Stored:
    """An argument that lies in a folder."""

    kind: type[Kept]
    folder: Path


@dataclass(frozen=True)
class _Work:
    """What every process is to do."""

    function: Callable[..., tuple[Any, TrainingReport]]
    arguments: list[Any]
    options: dict[str, Any]
    folder: Path


def _stored(argument: Any, folder: Path) -> Any:
    if not (hasattr(argument, "save") and hasattr(argument, "load")):
        return argument
    folder.mkdir()
    argument.save(folder)
    return _Stored(type(argument), folder)


def _loaded(argument: Any) -> Any:
    return argument.kind.load(argument.folder) if isinstance(argument, _Stored) else argument


def _work(work: _Work) -> None:
    """In each of the processes; torch's launcher has put its place into the environment."""
    try:
        cuda = choose_device(work.options["device"]).type == "cuda"
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if cuda else "gloo")
        me = ranks.current()
        arguments = [_loaded(one) for one in work.arguments]
        options = {name: _loaded(one) for name, one in work.options.items()}
        tell = _teller(work.folder / _PROGRESS) if me.first else None
        model, report = work.function(*arguments, **options, progress=tell)
        if me.first:
            model.save(work.folder / _MODEL)
            (work.folder / _REPORT).write_text(json.dumps(report.to_dict()))
        dist.barrier()
        dist.destroy_process_group()
    except TrainingError as error:
        content = json.dumps({"kind": type(error).__name__, "message": str(error)})
        (work.folder / f"{os.environ['RANK']}-{_FAILURE}").write_text(content)
        raise


def _what_failed(error: ChildFailedError, folder: Path, count: int) -> TrainingError:
    """The first failure of the processes: the later ones are those of processes that waited for it."""
    rank, failure = error.get_first_failure()
    # All see the same loss and may stop at once, so that another's failure can have the earlier second.
    for path in (folder / f"{rank}-{_FAILURE}", *sorted(folder.glob(f"*-{_FAILURE}"))):
        with suppress(FileNotFoundError):
            content = json.loads(path.read_text())
            kind: type[TrainingError] = getattr(errors, content["kind"], TrainingProcessError)
            return kind(content["message"])
    message: Any = failure.message
    if isinstance(message, dict):
        message = message.get("message", message)
    return TrainingProcessError(f"process {rank + 1} of {count} that train together failed: {message}")


def _teller(path: Path) -> Progress:
    """Writes progress down, not at every step."""

    def tell(step: int, total: int, loss: float) -> None:
        if step == total or step % max(1, total // _TELL_EVERY) == 0:
            with replacing(path) as beside:
                beside.write_text(json.dumps([step, total, loss]))

    return tell


@contextmanager
def _followed(path: Path, progress: Progress | None) -> Iterator[None]:
    """Tell `progress` what the first process writes down, from a thread."""
    if progress is None:
        yield
        return
    ended = threading.Event()

    def follow() -> None:
        last = None
        while True:
            over = ended.wait(_LOOK_EVERY_S)
            with suppress(FileNotFoundError):
                now = json.loads(path.read_text())
                if now != last:
                    progress(*now)
                last = now
            if over:
                return

    follower = threading.Thread(target=follow, name="training-progress", daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Put back the handlers that the launcher replaces, and let them handle the signal that ended it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = {one: handler for one in handled if (handler := signal.getsignal(one)) is not None}
    stopped: SignalException | None = None
    try:
        yield
    except SignalException as error:
        stopped = error
        raise
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        if stopped is not None:
            signal.raise_signal(stopped.sigval)
