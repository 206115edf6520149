"""One long-lived Blender in its own process group: JSON lines in, JSON lines out.

Its death costs the job in hand and no more: the next call starts a fresh one.
"""

import json
import logging
import os
import selectors
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from datagen.blender.executable import EXPECTED, blender_command, chosen_blender
from datagen.blender.libraries import start_advice
from datagen.errors import BlenderError, RowError

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 180.0  # a cold disk reads 350 MB of Blender
GOODBYE_S = 5.0
LOG_LIMIT_BYTES = 4 << 20  # Cycles writes about 1 kB a view; 25,000 scenes would fill a disk
TAIL_BYTES = 2000


class BlenderCrashed(RowError):
    """Blender died while it worked on one job."""


class BlenderTimedOut(BlenderCrashed):
    """Blender did not answer in time and was killed."""


class BlenderJobFailed(RowError):
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
    """

    def __init__(
        self, log_path: Path, *, blender: str | None = None, threads: int | None = None
    ) -> None:
        self.log_path = Path(log_path)
        self.threads = threads
        self.restarts = 0
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

    def call(self, op: str, *, timeout_s: float, **fields: Any) -> dict[str, Any]:
        """Run one job and return its answer; everything must be plain JSON.

        Raises:
            BlenderError: Blender cannot be started here at all, or is the wrong version.
            BlenderCrashed: it died, or exceeded the time (BlenderTimedOut); the next call
                starts a fresh one.
            BlenderJobFailed: the job raised; the message has the traceback inside Blender.
        """
        self._ensure_started()
        self._cut_log()
        reply = self._exchange({"op": op, **fields}, timeout_s)
        self._refuse_wrong(reply)
        if "error" in reply:
            raise BlenderJobFailed(
                f"Blender job {op!r}: {reply['error']}\n{reply.get('traceback', '')}".rstrip()
            )
        return reply

    def close(self) -> None:
        """End Blender: politely, then with SIGKILL to its whole group."""
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
            self._start()

    def _is_waiting(self) -> bool:
        """Say whether Blender waits for a job: it lives, and its reply pipe is silent and open."""
        assert self._process is not None
        return self._process.poll() is None and not self._has_words(timeout_s=0.0)

    def _start(self) -> None:
        script = scripts_folder() / "worker.py"
        command = blender_command(self._blender, script)
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
                    env=_environment(self.threads),
                )
            except OSError as error:
                os.close(self._replies)
                raise BlenderError(
                    f"Blender cannot start: {self._blender}: {error.strerror}. {EXPECTED}"
                ) from None
            finally:
                os.close(reply_end)
        self._greet()

    def _greet(self) -> None:
        try:
            hello = self._exchange({"op": "hello"}, START_TIMEOUT_S)
        except BlenderCrashed as error:
            raise BlenderError(
                f"Blender cannot start: {error} Expected it to answer; {start_advice(str(error))}"
            ) from None
        if "error" in hello:
            self.close()
            self._refuse_wrong(hello)
            raise BlenderError(
                f"Blender cannot start: {hello['error']}. Expected `import bpy` to work in "
                f"{self._blender}; {start_advice(hello['error'])}"
            )
        self._hello = hello

    def _refuse_wrong(self, reply: dict[str, Any]) -> None:
        """Raise when another Blender is needed: no row would succeed in this one."""
        if reply.get("kind") == "WrongBlender":
            words = reply["error"].removeprefix("WrongBlender: ")
            raise BlenderError(f"{self._blender}: {words}")

    def _exchange(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        assert self._process is not None and self._process.stdin is not None
        deadline = time.monotonic() + timeout_s
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._crash(message["op"]) from None
        line = self._read_line(deadline)
        if line is None:
            raise self._time_out(message["op"], timeout_s)
        if not line:
            raise self._crash(message["op"])
        reply: dict[str, Any] = json.loads(line)
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
        return BlenderCrashed(f"Blender {how} during {op!r}; {self._log_tail()}")

    def _time_out(self, op: str, timeout_s: float) -> BlenderTimedOut:
        self._bury()
        return BlenderTimedOut(
            f"Blender did not finish {op!r} in {timeout_s:g} s and was killed; {self._log_tail()}"
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


def _environment(threads: int | None) -> dict[str, str]:
    environment = dict(os.environ)
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
