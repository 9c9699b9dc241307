"""Stands for the command of the embedded engine's service where ``services.py`` forks services.

A script, with the command's arguments. It passes them on, with its files, environment and
directory, and ends when the service has left it, as the command itself does.
"""

import json
import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(os.environ["TESTS_FORKED_SERVICES"])
    job = {"arguments": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()}
    socket.send_fds(connection, [json.dumps(job).encode()], [0, 1, 2])
    connection.shutdown(socket.SHUT_WR)
    # The descriptors here are kept until the service has its own
    sys.exit(int(connection.makefile().read()))
