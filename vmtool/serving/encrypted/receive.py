"""A worker's side of the key agent."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.files import read_exactly, wipe
from vmtool.serving.encrypted.bundle import LARGEST, Bundle, unpack
from vmtool.serving.encrypted.process import AGENT

# Seconds: the socket is there a moment after the engine's process is.
WAIT, ANSWER = 10.0, 30.0


def receive_bundle() -> Bundle:
    """Ask the agent for the model.

    Raises:
        Untrusted: there is no agent, or it gives this process nothing.
    """
    path = os.environ.get(AGENT, "")
    if not path:
        raise Untrusted("this model is encrypted, and no key agent was named: start it by vmtool.serving.entrypoint")
    with connected(Path(path)) as agent:
        try:
            _, descriptors, _, _ = socket.recv_fds(agent, 16, 1)
        except OSError as error:
            raise Untrusted(f"the key agent does not answer: {error.strerror or error}") from None
    if not descriptors:
        raise Untrusted("the key agent gives this process no key")
    try:
        return unpack(read_keys(descriptors[0]))
    finally:
        os.close(descriptors[0])


def read_keys(descriptor: int) -> bytearray:
    """What is in the file that was received.

    Raises:
        Untrusted: it is too large.
    """
    size = os.fstat(descriptor).st_size
    if size > LARGEST:
        raise Untrusted("the keys are too many")
    packed = bytearray(size)
    try:
        read_exactly(descriptor, memoryview(packed), 0)
    except BaseException:
        wipe(packed)
        raise
    return packed


def connected(path: Path) -> socket.socket:
    """A connection to the agent.

    Raises:
        Untrusted: nobody listens there, or no more.
    """
    end = time.monotonic() + WAIT
    while True:
        agent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        agent.settimeout(ANSWER)
        try:
            agent.connect(str(path))
            return agent
        except OSError as error:
            agent.close()
            if time.monotonic() > end:
                raise Untrusted(f"no key agent at {path}: {error.strerror or error}") from None
            time.sleep(0.05)
