"""One long-lived Blender in its own process group: JSON lines in, JSON lines out.

Its death costs the job in hand and no more: the next call starts a fresh one.
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
from datagen.blender.failures import RenderFailure, kind_of_exit, kind_of_words, oom_kills
from datagen.blender.libraries import start_advice
from datagen.blender.scratch import scratch_folder
from datagen.errors import BlenderError
from datagen.executors.memory import resident_mb

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 180.0  # a cold disk reads 350 MB of Blender
START_ATTEMPTS = 3
GOODBYE_S = 5.0
LOG_LIMIT_BYTES = 4 << 20  # Cycles writes about 1 kB a view; 25,000 scenes would fill a disk
TAIL_BYTES = 2000


class BlenderCrashed(RenderFailure):
    """Blender died while it worked on one job."""


class BlenderTimedOut(BlenderCrashed):
    """Blender did not get on in time and was killed."""


class BlenderJobFailed(RenderFailure):
    """A job raised a Python error inside Blender, which lives on."""


class BlenderProcess:
    """A Blender that answers calls, started when first needed.

    Use it as a context manager; leaving it ends the process. Should this process die without
    leaving it, Blender sees its standard input close and ends itself, even while rendering.

    Args:
        log_path: everything that Blender prints goes here (appended, cut when it grows large).
        blender: a Blender executable or a Python with bpy; by default the one that the environment
            variable DATAGEN_BLENDER names, else this Python.
        threads: the most threads that Blender may use; all cores by default.
        device: where Cycles renders: auto, cpu, cuda or optix.
        recycle_scenes: begin with a fresh Blender after so many scenes; 0: never.
        recycle_growth_mb: and when its memory has grown by so much; 0: never.
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
        """The process id of the running Blender; None when none runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def hello(self) -> dict[str, Any]:
        """What Blender said of itself at its start: versions and devices."""
        self._ensure_started()
        return self._hello

    @property
    def device_in_use(self) -> str | None:
        """The kind of device that Cycles uses, in its own words; None before the first start."""
        return self._hello.get("device")

    @property
    def cycles_device(self) -> str:
        """What Cycles is told to render on: CPU or GPU."""
        is_cpu = self.cpu_only or self._hello.get("device", "CPU") == "CPU"
        return "CPU" if is_cpu else "GPU"

    @property
    def scratch(self) -> Path:
        """A folder for files that are exchanged with Blender; no kill leaves it behind for long."""
        if self._scratch is None:
            self._scratch = self._stack.enter_context(scratch_folder())
        return self._scratch

    @property
    def folders(self) -> list[Path]:
        """The folders that it writes to."""
        return [self.scratch, self.log_path.parent]

    def begin_scene(self) -> bool:
        """Count a scene; say whether a fresh Blender begins with it, the old one being due."""
        self._scenes += 1
        most_scenes, most_growth_mb = self._limits
        growth_mb = self._growth_mb()
        is_due = 0 < most_scenes < self._scenes or 0 < most_growth_mb < growth_mb
        if is_due:
            logger.debug("Blender: %d scenes, %.0f MB more: recycled", self._scenes - 1, growth_mb)
            self.recycle()
            self.recycled += 1
            self._scenes = 1
        return is_due

    def recycle(self) -> None:
        """End Blender; the next call starts a fresh one."""
        self._end()
        self._first_mb = 0.0

    def call(self, op: str, *, timeout_s: float, **fields: Any) -> dict[str, Any]:
        """Run one job and return its answer; everything must be plain JSON.

        Args:
            op: what to do.
            timeout_s: the longest that may pass without a sign of progress (a view, the answer).
            fields: what the job needs.

        Raises:
            BlenderError: Blender cannot be started here at all, or is the wrong version.
            BlenderCrashed: it died, or exceeded the time (BlenderTimedOut); the next call
                starts a fresh one.
            BlenderJobFailed: the job raised; the message has the traceback inside Blender.
        """
        self._ensure_started()
        self._cut_log()
        reply = self._exchange({"op": op, "device": self.cycles_device, **fields}, timeout_s)
        self._refuse_wrong(reply)
        if "error" in reply:
            words = f"Blender job {op!r}: {reply['error']}\n{reply.get('traceback', '')}".rstrip()
            raise BlenderJobFailed(words, kind_of_words(reply["error"]) or "python_error")
        return reply

    def close(self) -> None:
        """End Blender: politely, then with SIGKILL to its whole group."""
        self._end()
        self._stack.close()
        self._scratch = None

    def _growth_mb(self) -> float:
        """Return how much Blender has grown since its first scene, when all code was loaded."""
        now_mb = 0.0 if self.pid is None else resident_mb(self.pid)
        self._first_mb = self._first_mb or now_mb
        return now_mb - self._first_mb

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        try:
            process.stdin.close()  # the worker's sign to leave
        except BrokenPipeError:
            logger.debug("Blender %d had left already", process.pid)
        try:
            process.wait(GOODBYE_S)
        except subprocess.TimeoutExpired:
            logger.warning("Blender %d did not leave in %g s; killed", process.pid, GOODBYE_S)
        _kill_group(process)
        os.close(self._replies)

    def _ensure_started(self) -> None:
        if self._process is not None and not self._is_waiting():
            self._bury()  # it died while idle: no job is to blame
        if self._process is None:
            self._start_and_greet()

    def _is_waiting(self) -> bool:
        """Say whether Blender waits for a job: it lives, and its reply pipe is silent and open."""
        assert self._process is not None
        return self._process.poll() is None and not self._has_words(timeout_s=0.0)

    def _start(self) -> None:
        script = scripts_folder() / "worker.py"
        command = blender_command(self._blender, script)
        self._oom_kills = oom_kills()
        self._first_mb = 0.0
        temporary = self.scratch / "blender"
        shutil.rmtree(temporary, ignore_errors=True)  # of one that crashed
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

    def _start_and_greet(self) -> None:
        """Start Blender; again if somebody kills it before it is up."""
        for attempts_left in reversed(range(START_ATTEMPTS)):
            self._start()
            try:
                return self._greet()
            except BlenderCrashed as error:
                if error.kind in ("killed", "out_of_memory") and attempts_left:
                    logger.warning("Blender was killed while it started; started again")
                    continue
                advice = start_advice(str(error))
                raise BlenderError(
                    f"Blender cannot start: {error} Expected it to answer; {advice}"
                ) from None

    def _greet(self) -> None:
        wanted = choose_device(self._device)
        hello = self._exchange({"op": "hello", "wanted": wanted}, START_TIMEOUT_S)
        if "error" in hello:
            self.close()
            self._refuse_wrong(hello)
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

    def _refuse_wrong(self, reply: dict[str, Any]) -> None:
        """Raise when another Blender is needed: no row would succeed in this one."""
        if reply.get("kind") == "WrongBlender":
            words = reply["error"].removeprefix("WrongBlender: ")
            raise BlenderError(f"{self._blender}: {words}")

    def _exchange(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._crash(message["op"]) from None
        while True:
            line = self._read_line(time.monotonic() + timeout_s)
            if line is None:
                raise self._time_out(message["op"], timeout_s)
            if not line:
                raise self._crash(message["op"])
            reply: dict[str, Any] = json.loads(line)
            if "progress" not in reply:
                return reply

    def _read_line(self, deadline: float) -> bytes | None:
        """Return one line of the reply pipe, b"" at its end, None after the deadline."""
        while b"\n" not in self._buffer:
            if not self._has_words(timeout_s=max(0.0, deadline - time.monotonic())):
                return None
            data = os.read(self._replies, 1 << 16)
            if not data:
                return b""
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _has_words(self, *, timeout_s: float) -> bool:
        """Wait until the reply pipe has something to read, or its end."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            return bool(selector.select(timeout_s))

    def _crash(self, op: str) -> BlenderCrashed:
        code = self._bury()
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"exited with code {code}"
        tail = self._log_tail()
        kind = kind_of_exit(code, tail, oom_killed=oom_kills() > self._oom_kills)
        return BlenderCrashed(f"Blender {how} during {op!r}; {tail}", kind)

    def _time_out(self, op: str, timeout_s: float) -> BlenderTimedOut:
        self._bury()
        return BlenderTimedOut(
            f"Blender made no progress with {op!r} in {timeout_s:g} s and was killed; "
            f"{self._log_tail()}",
            "timeout",
        )

    def _bury(self) -> int:
        """Clear away a Blender that died or must die, and return its exit code."""
        process, self._process = self._process, None
        assert process is not None and process.stdin is not None
        try:
            process.wait(0.5)  # its pipe closes a moment before its exit code is known
        except subprocess.TimeoutExpired:
            logger.debug("Blender %d is killed", process.pid)
        _kill_group(process)
        try:
            process.stdin.close()
        except BrokenPipeError:
            logger.debug("Blender %d left words unread", process.pid)
        os.close(self._replies)
        self.restarts += 1
        return process.returncode

    def _log_tail(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(max(self._log_start, self.log_path.stat().st_size - TAIL_BYTES))
            text = log.read().decode(errors="replace").strip()
        return f"{self.log_path} ends:\n{text}\n" if text else f"{self.log_path} says nothing."

    def _cut_log(self) -> None:
        if self.log_path.stat().st_size > LOG_LIMIT_BYTES:
            os.truncate(self.log_path, 0)  # Blender appends, so its next line starts at 0
            self._log_start = 0


def scripts_folder() -> Path:
    """Return ``blender_scripts/``: inside the package when installed, else beside it."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "blender_scripts", package.parent / "blender_scripts"):
        if (folder / "worker.py").is_file():
            return folder
    raise BlenderError(
        f"blender_scripts/worker.py is neither in {package} nor beside it. Expected the scripts "
        "that run inside Blender to be installed with datagen; install it again."
    )


def _import_root() -> Path:
    """Return the folder from which Blender's Python can import ``datagen.core``."""
    return Path(__file__).resolve().parents[2]


def _environment(threads: int | None, temporary: Path) -> dict[str, str]:
    environment = dict(os.environ) | {"TMPDIR": str(temporary)}
    environment.pop("DISPLAY", None)  # no window system is wanted, nor waited for
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of a process group that we started, and reap its leader."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        logger.debug("Blender %d is gone", process.pid)
    process.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
