"""A Blender that answers JSON lines: ``python worker.py -- REPLY_FD IMPORT_ROOT``.

Jobs come on standard input, one a line; answers go to the pipe REPLY_FD, so that whatever
Blender prints can never be mistaken for one. It ends when its standard input closes or its
parent is gone, even in the middle of a render.
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
    """Answer jobs, one after the other, until standard input closes."""
    reply_fd, import_root = int(sys.argv[-2]), sys.argv[-1]
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    sys.path.append(import_root)  # last: Blender's own numpy comes before one that lies there
    _speak_at_once()
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=_read_jobs, args=(jobs, os.getppid()), daemon=True).start()
    while True:
        job = jobs.get()
        if job["op"] == "render":
            _tell_each_view(reply_fd)
        _say(reply_fd, _answer(job))


def _speak_at_once() -> None:
    """Let the log hold the last words of a Blender that crashes."""
    faulthandler.enable()  # the Python lines that led into a segmentation fault
    sys.stdout.reconfigure(line_buffering=True)
    if sys.platform == "linux":
        line_buffered = 1  # _IOLBF; to a file, C would hold back 4 kB
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


def _tell_each_view(reply_fd: int) -> None:
    """Let whoever waits know after each picture that this Blender gets on."""
    import bpy

    def tell(*_: Any) -> None:
        _say(reply_fd, {"progress": True})

    bpy.app.handlers.render_post[:] = [tell]


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
    """Fill the queue from standard input; end the process when nobody can write there."""
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


def _say(fd: int, words: Job) -> None:
    data = json.dumps(words).encode() + b"\n"
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    main()
