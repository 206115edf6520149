"""The connection to Ray: started here or joined, shared by all stages of a command."""

import logging
import os
import signal
import socket
import threading

import ray

from datagen.errors import ConfigError

SILENCE_S = 10.0
"""After this time without news, Ray is asked whether it still runs."""


class RaySession:
    """Ray as one command uses it.

    Args:
        address: of a running cluster; None starts Ray on this machine.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._is_ours = False

    def start(self) -> None:
        """Connect to Ray, or start it here. Does nothing if that is done.

        Raises:
            ConfigError: no cluster answers at the address.
        """
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        on_terminate = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                address=self._address,
                include_dashboard=None if self._address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"--ray-address {self._address}: Ray does not answer ({error}). "
                "Expected the address of a running cluster (see `ray start`); leave the flag out "
                "for this machine."
            ) from error
        self._is_ours = True
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # Ray installs a handler that aborts

    def close(self) -> None:
        """Disconnect from Ray, or end it if it was started here."""
        if not self._is_ours:
            return
        self._is_ours = False
        if answers():  # otherwise Ray waits a minute and then ends this process
            ray.shutdown()


def answers() -> bool:
    """Return whether Ray's control service runs.

    The socket is tested, because a call to a dead Ray would end this process.
    """
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=SILENCE_S).close()
    except OSError:
        return False
    return True


def gone(what: str) -> str:
    """Return the error message for the end of Ray.

    Args:
        what: what happened.
    """
    return (
        f"{what}. Finished work is safe; run the same command again, it makes only what is missing."
    )
