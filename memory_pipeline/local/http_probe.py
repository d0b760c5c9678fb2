"""Whether a server on this machine answers over HTTP."""

from __future__ import annotations

import http.client


def answers_ok(port: int, path: str) -> bool:
    """Whether 127.0.0.1 answers 200 on this port and path; http.client, because it never asks a proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False  # not up yet, or no longer: whoever asks also asks whether the process lives
    finally:
        connection.close()
