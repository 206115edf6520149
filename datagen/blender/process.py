"""A long-lived Blender worker process in its own process group, driven by JSON lines.

If Blender crashes, only the current job fails: the next call starts a fresh Blender.
"""

import json
import logging
import os
import selectors
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from datagen.blender.devices import check_device, choose_device
from datagen.blender.executable import EXPECTED, blender_command, chosen_blender
from datagen.blender.failures import RenderFailure, kind_of_exit, kind_of_message, oom_kills
from datagen.blender.libraries import start_advice
from datagen.blender.scratch import scratch_folder
from datagen.errors import BlenderError
from datagen.executors.memory import resident_mb

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 180.0  # the first start reads 350 MB from disk
MAX_STARTS = 3
EXIT_TIMEOUT_S = 5.0
LOG_LIMIT_BYTES = 4 << 20  # Cycles writes about 1 kB per view; 25,000 scenes would fill a disk
TAIL_BYTES = 2000


class BlenderCrashed(RenderFailure):
    """Blender ended while it worked on a job."""


class BlenderTimedOut(BlenderCrashed):
    """Blender made no progress in time and was killed."""


class BlenderJobFailed(RenderFailure):
    """A job raised a Python error inside Blender, which keeps running."""


class BlenderProcess:
    """A Blender that runs jobs. It is started by the first call.

    Use it as a context manager; leaving the context ends Blender. If this process is killed,
    Blender's standard input closes, and Blender ends itself, even while it renders.

    Args:
        log_path: file for everything that Blender prints; appended to, emptied when it gets large.
        blender: a Blender executable or a Python with bpy; by default that of the environment
            variable DATAGEN_BLENDER, else this Python.
        threads: most threads that Blender may use; by default all cores.
        device: the device on which Cycles renders: auto, cpu, cuda or optix.
        recycle_scenes: number of scenes after which Blender is restarted; 0: never.
        recycle_growth_mb: growth of Blender's memory, MB, after which it is restarted; 0: never.
    """

    def __init__(
        self,
        log_path: Path,
        *,
        blender: str | None = None,
        threads: int | None = None,
        device: str = "auto",
        recycle_scenes: int = 0,
        recycle_growth_mb: float = 0.0,
    ) -> None:
        self.log_path = Path(log_path)
        self.threads = threads
        self.restarts = 0
        self.recycled = 0
        self.cpu_only = False
        self._device = device
        self._limits = (recycle_scenes, recycle_growth_mb)
        self._scenes = 0
        self._first_mb = 0.0
        self._oom_kills = 0
        self._stack = ExitStack()
        self._scratch: Path | None = None
        self._blender = chosen_blender(blender)
        self._process: subprocess.Popen[bytes] | None = None
        self._replies = -1
        self._buffer = b""
        self._log_start = 0
        self._hello: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the running Blender; None if none is running."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def hello(self) -> dict[str, Any]:
        """Blender's versions and devices, as it reported them when it started."""
        self._ensure_started()
        return self._hello

    @property
    def device_in_use(self) -> str | None:
        """The device that Cycles uses, by its own name; None before the first start."""
        return self._hello.get("device")

    @property
    def cycles_device(self) -> str:
        """The value of Cycles' setting ``device``: CPU or GPU."""
        is_cpu = self.cpu_only or self._hello.get("device", "CPU") == "CPU"
        return "CPU" if is_cpu else "GPU"

    @property
    def scratch(self) -> Path:
        """Folder for files that are exchanged with Blender (see ``scratch_folder``)."""
        if self._scratch is None:
            self._scratch = self._stack.enter_context(scratch_folder())
        return self._scratch

    @property
    def folders(self) -> list[Path]:
        """The folders that Blender writes to."""
        return [self.scratch, self.log_path.parent]

    def begin_scene(self) -> bool:
        """Count a scene, and restart Blender if that is due; return whether it was restarted."""
        self._scenes += 1
        most_scenes, most_growth_mb = self._limits
        growth_mb = self._growth_mb()
        is_due = 0 < most_scenes < self._scenes or 0 < most_growth_mb < growth_mb
        if is_due:
            logger.debug(
                "Blender restarts after %d scenes and %.0f MB of growth",
                self._scenes - 1,
                growth_mb,
            )
            self.recycle()
            self.recycled += 1
            self._scenes = 1
        return is_due

    def recycle(self) -> None:
        """End Blender; the next call starts a fresh one."""
        self._end()
        self._first_mb = 0.0

    def call(self, op: str, *, timeout_s: float, **fields: Any) -> dict[str, Any]:
        """Run one job and return its answer.

        Args:
            op: the kind of job: ``hello``, ``prepare`` or ``render``.
            timeout_s: longest time without progress (a finished view, or the answer).
            fields: the job's fields, as plain JSON.

        Raises:
            BlenderError: Blender cannot start, or is the wrong version.
            BlenderCrashed: Blender ended, or made no progress in time (BlenderTimedOut).
            BlenderJobFailed: the job raised an error; the message has its traceback.
        """
        self._ensure_started()
        self._truncate_log()
        reply = self._exchange({"op": op, "device": self.cycles_device, **fields}, timeout_s)
        self._check_version(reply)
        if "error" in reply:
            message = f"Blender job {op!r}: {reply['error']}\n{reply.get('traceback', '')}".rstrip()
            raise BlenderJobFailed(message, kind_of_message(reply["error"]) or "python_error")
        return reply

    def close(self) -> None:
        """End Blender: close its standard input, then kill its process group."""
        self._end()
        self._stack.close()
        self._scratch = None

    def _growth_mb(self) -> float:
        """Return how much Blender's memory has grown, MB, since its first scene."""
        now_mb = 0.0 if self.pid is None else resident_mb(self.pid)
        self._first_mb = self._first_mb or now_mb
        return now_mb - self._first_mb

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        try:
            process.stdin.close()  # tells the worker to end
        except BrokenPipeError:
            logger.debug("Blender %d had ended already", process.pid)
        try:
            process.wait(EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            logger.warning("Blender %d did not end in %g s; killed", process.pid, EXIT_TIMEOUT_S)
        _kill_group(process)
        os.close(self._replies)

    def _ensure_started(self) -> None:
        if self._process is not None and not self._is_idle():
            self._reap()  # it ended while idle, so no job failed
        if self._process is None:
            self._start()

    def _is_idle(self) -> bool:
        """Return whether Blender waits for a job: it runs, and its reply pipe is open and empty."""
        assert self._process is not None
        return self._process.poll() is None and not self._has_reply(timeout_s=0.0)

    def _start_worker(self) -> None:
        script = scripts_folder() / "worker.py"
        command = blender_command(self._blender, script)
        self._oom_kills = oom_kills()
        self._first_mb = 0.0
        temporary = self.scratch / "blender"
        shutil.rmtree(temporary, ignore_errors=True)  # left by a crashed Blender
        temporary.mkdir()
        self._replies, reply_end = os.pipe()
        self._buffer = b""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            try:
                self._process = subprocess.Popen(
                    [*command, str(reply_end), str(_import_root())],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=[reply_end],
                    start_new_session=True,
                    env=_environment(self.threads, temporary),
                )
            except OSError as error:
                os.close(self._replies)
                raise BlenderError(
                    f"Blender cannot start: {self._blender}: {error.strerror}. {EXPECTED}"
                ) from None
            finally:
                os.close(reply_end)

    def _start(self) -> None:
        """Start Blender; start it again if it is killed before it is ready."""
        for attempts_left in reversed(range(MAX_STARTS)):
            self._start_worker()
            try:
                return self._handshake()
            except BlenderCrashed as error:
                if error.kind in ("killed", "out_of_memory") and attempts_left:
                    logger.warning("Blender was killed while it started; started again")
                    continue
                advice = start_advice(str(error))
                raise BlenderError(
                    f"Blender cannot start: {error} Expected it to answer; {advice}"
                ) from None

    def _handshake(self) -> None:
        wanted = choose_device(self._device)
        hello = self._exchange({"op": "hello", "wanted": wanted}, START_TIMEOUT_S)
        if "error" in hello:
            self.close()
            self._check_version(hello)
            raise BlenderError(
                f"Blender cannot start: {hello['error']}. Expected `import bpy` to work in "
                f"{self._blender}; {start_advice(hello['error'])}"
            )
        try:
            check_device(self._device, hello)
        except BlenderError:
            self._end()
            raise
        self._hello = hello
        first = not self.restarts and not self.recycled
        log = logger.info if first else logger.debug
        log(f"Blender {hello['blender']} renders on {hello['device']} (--device {self._device})")

    def _check_version(self, reply: dict[str, Any]) -> None:
        """Raise BlenderError if this Blender has the wrong version: every row would fail."""
        if reply.get("kind") == "WrongBlender":
            message = reply["error"].removeprefix("WrongBlender: ")
            raise BlenderError(f"{self._blender}: {message}")

    def _exchange(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._handle_death(message["op"]) from None
        while True:
            line = self._read_line(time.monotonic() + timeout_s)
            if line is None:
                raise self._handle_timeout(message["op"], timeout_s)
            if not line:
                raise self._handle_death(message["op"])
            reply: dict[str, Any] = json.loads(line)
            if "progress" not in reply:
                return reply

    def _read_line(self, deadline: float) -> bytes | None:
        """Return one line of the reply pipe; b"" at its end, None after the deadline."""
        while b"\n" not in self._buffer:
            if not self._has_reply(timeout_s=max(0.0, deadline - time.monotonic())):
                return None
            data = os.read(self._replies, 1 << 16)
            if not data:
                return b""
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _has_reply(self, *, timeout_s: float) -> bool:
        """Return whether the reply pipe has data or has ended, after waiting for it."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            return bool(selector.select(timeout_s))

    def _handle_death(self, op: str) -> BlenderCrashed:
        code = self._reap()
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"exited with code {code}"
        tail = self._log_tail()
        kind = kind_of_exit(code, tail, oom_killed=oom_kills() > self._oom_kills)
        return BlenderCrashed(f"Blender {how} during {op!r}; {tail}", kind)

    def _handle_timeout(self, op: str, timeout_s: float) -> BlenderTimedOut:
        self._reap()
        return BlenderTimedOut(
            f"Blender made no progress with {op!r} in {timeout_s:g} s and was killed; "
            f"{self._log_tail()}",
            "timeout",
        )

    def _reap(self) -> int:
        """Kill what is left of a Blender that ended or must end, and return its exit code."""
        process, self._process = self._process, None
        assert process is not None and process.stdin is not None
        try:
            process.wait(0.5)  # the pipe closes shortly before the exit code is known
        except subprocess.TimeoutExpired:
            logger.debug("Blender %d is killed", process.pid)
        _kill_group(process)
        try:
            process.stdin.close()
        except BrokenPipeError:
            logger.debug("Blender %d left input unread", process.pid)
        os.close(self._replies)
        self.restarts += 1
        return process.returncode

    def _log_tail(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(max(self._log_start, self.log_path.stat().st_size - TAIL_BYTES))
            text = log.read().decode(errors="replace").strip()
        return f"{self.log_path} ends:\n{text}\n" if text else f"{self.log_path} is empty."

    def _truncate_log(self) -> None:
        if self.log_path.stat().st_size > LOG_LIMIT_BYTES:
            os.truncate(self.log_path, 0)  # Blender appends, so its next line starts at 0
            self._log_start = 0


def scripts_folder() -> Path:
    """Return the folder ``blender_scripts``: inside the installed package, or beside it."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "blender_scripts", package.parent / "blender_scripts"):
        if (folder / "worker.py").is_file():
            return folder
    raise BlenderError(
        f"blender_scripts/worker.py is neither in {package} nor beside it. Expected the scripts "
        "that run inside Blender to be installed with datagen; install datagen again."
    )


def _import_root() -> Path:
    """Return the folder from which Blender's Python can import ``datagen.core``."""
    return Path(__file__).resolve().parents[2]


def _environment(threads: int | None, temporary: Path) -> dict[str, str]:
    environment = dict(os.environ) | {"TMPDIR": str(temporary)}
    environment.pop("DISPLAY", None)  # Blender must not wait for a window system
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process group that this process started, and reap its leader."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        logger.debug("Blender %d has ended", process.pid)
    process.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
