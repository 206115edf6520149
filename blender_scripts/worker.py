"""The worker process inside Blender: ``python worker.py -- REPLY_FD IMPORT_ROOT``.

Jobs come on standard input, one JSON object per line. Answers go to the pipe REPLY_FD, apart from
what Blender prints. The worker ends when its standard input closes or its parent process ends,
even while it renders.
"""

import ctypes
import faulthandler
import json
import os
import queue
import select
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

PARENT_POLL_S = 1.0

Job = dict[str, Any]


def main() -> None:
    """Run jobs and send their answers, one after the other, until standard input closes."""
    reply_fd, import_root = int(sys.argv[-2]), sys.argv[-1]
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    sys.path.append(import_root)  # last, so that Blender's own numpy is imported
    _write_logs_at_once()
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=_read_jobs, args=(jobs, os.getppid()), daemon=True).start()
    while True:
        job = jobs.get()
        if job["op"] == "render":
            _report_each_view(reply_fd)
        _send(reply_fd, _answer(job))


def _write_logs_at_once() -> None:
    """Turn off buffering, so that the log of a crash is complete."""
    faulthandler.enable()  # logs the Python lines that led to a segmentation fault
    sys.stdout.reconfigure(line_buffering=True)
    if sys.platform == "linux":
        line_buffered = 1  # _IOLBF; C buffers 4 kB for files
        libc = ctypes.CDLL(None)
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, line_buffered, 0)


def _answer(job: Job) -> Job:
    try:
        return _run(job)
    except Exception as error:  # noqa: BLE001 - any error of a job is that job's answer
        return {
            "error": f"{type(error).__name__}: {error}",
            "traceback": traceback.format_exc(),
            "kind": type(error).__name__,
        }


def _run(job: Job) -> Job:
    if job["op"] == "hello":
        return _hello(job)
    if job["op"] == "prepare":
        import prepare

        return prepare.prepare(job)
    if job["op"] == "render":
        import render

        return render.render(job)
    raise ValueError(f"op {job['op']!r} is unknown; expected hello, prepare or render")


def _report_each_view(reply_fd: int) -> None:
    """Send a progress message after each rendered image."""
    import bpy

    def report(*_: Any) -> None:
        _send(reply_fd, {"progress": True})

    bpy.app.handlers.render_post[:] = [report]


def _hello(job: Job) -> Job:
    import bpy
    import numpy as np

    import compat
    import devices

    compat.check_supported()
    return {
        "blender": bpy.app.version_string,
        "build": bpy.app.build_hash.decode(),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "pid": os.getpid(),
        **devices.choose(job.get("wanted", ["CPU"])),
    }


def _read_jobs(jobs: "queue.SimpleQueue[Job]", parent: int) -> None:
    """Put jobs from standard input into the queue; end the process when no more can come."""
    pending = b""
    while os.getppid() == parent:
        if not select.select([0], [], [], PARENT_POLL_S)[0]:
            continue
        data = os.read(0, 1 << 16)
        if not data:
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            jobs.put(json.loads(line))
    os._exit(0)  # not sys.exit: the main thread may be deep inside a render


def _send(fd: int, message: Job) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    main()
