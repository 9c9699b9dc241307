"""Runs one Milvus server in a network namespace of its own.

A script; see ``servers.py``.

Milvus 2.3.5's embedded etcd has fixed ports and binds a dozen others: two servers on one network
collide. A network namespace ends that. The socket on which clients call is made before the
process enters its namespace and stays in the outer network, so connections are carried across
by one thread a direction, with no bridge and no privileges beyond ``unshare``.

It ends with the process that started it, or the last of several that share it: they hold the other
end of our stdin.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_INSIDE_PORT = 19530


def enter_namespace() -> bool:
    """Moves this process into a network namespace of its own; False where that is not allowed."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWNET) != 0:
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            return False
        with contextlib.suppress(OSError):
            Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    siocgifflags, siocsifflags, iff_up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(sock, siocgifflags, request))[1]
        fcntl.ioctl(sock, siocsifflags, struct.pack("16sh14x", b"lo", flags | iff_up))
    return True


def unpacked(cache: Path) -> Path:
    """The folder with Milvus' binary and libraries, unpacked once per machine (some seconds)."""
    import milvus

    done = cache / f"milvus-{milvus.__version__}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.is_dir():
            partial = cache / f"partial-{os.getpid()}"
            milvus._initialize_data_files(str(partial))
            partial.rename(done)
    return done / "bin"


def configured(folder: Path, options: dict[str, object], port: int) -> tuple[dict[str, str], int]:
    """Writes the configuration; returns the environment and the port inside."""
    import milvus

    config = milvus.MilvusServerConfig()
    config.configs["data_dir"] = str(folder)
    config.resolve_storage()
    for name, value in options.items():
        config.set(name, value)
    config.configs["proxy_port"] = port
    config.resolve()
    metrics, sock = config.resolve_port(9091)
    sock.close()
    environment = dict(os.environ)
    environment["DEPLOY_MODE"] = "STANDALONE"
    # Its garbage may grow to eight times of what it uses, which is little: less time goes on it
    environment["GOGC"] = "800"
    environment["METRICS_PORT"] = str(metrics)
    environment["MILVUS_RUN_DIR"] = str(folder / "run")
    return environment, port


def etcd_config(folder: Path) -> Path:
    """An etcd configuration with free ports, for where there are no namespaces."""
    peer, client = _free_port(), _free_port()
    path = folder / "etcd.yaml"
    path.write_text(
        f"listen-peer-urls: http://127.0.0.1:{peer}\n"
        f"initial-advertise-peer-urls: http://127.0.0.1:{peer}\n"
        f"initial-cluster: default=http://127.0.0.1:{peer}\n"
        f"listen-client-urls: http://127.0.0.1:{client}\n"
        f"advertise-client-urls: http://127.0.0.1:{client}\n"
    )
    return path


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def forward(listener: socket.socket, port: int) -> None:
    """Carries every connection of ``listener`` to ``port`` on the loopback of this namespace."""
    while True:
        outer, _ = listener.accept()
        threading.Thread(target=_carry, args=(outer, port), daemon=True).start()


def _carry(outer: socket.socket, port: int) -> None:
    try:
        inner = socket.create_connection(("127.0.0.1", port), timeout=5)
    except OSError:
        outer.close()
        return
    inner.settimeout(None)
    for sock in (outer, inner):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=_pump, args=(inner, outer), daemon=True).start()
    _pump(outer, inner)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    buffer = memoryview(bytearray(1 << 18))
    with contextlib.suppress(OSError):
        while count := source.recv_into(buffer):
            sink.sendall(buffer[:count])
    for sock in (source, sink):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--no-namespace", action="store_true")
    arguments = parser.parse_args()

    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", arguments.port))
    binaries = unpacked(arguments.cache)

    isolated = not arguments.no_namespace and enter_namespace()
    environment, port = configured(
        folder, arguments.options, _INSIDE_PORT if isolated else _free_port()
    )
    environment["LD_LIBRARY_PATH"] = f"{binaries}:{environment.get('LD_LIBRARY_PATH', '')}"
    if not isolated:
        etcd = etcd_config(folder)
        environment["ETCD_CONFIG_PATH"] = str(etcd)
        client_url = etcd.read_text().rsplit("http://", 1)[1].strip()
        environment["ETCD_ENDPOINTS"] = client_url
    from processes import die_with_parent

    with open(folder / "server.log", "ab") as log:
        server = subprocess.Popen(
            [str(binaries / "milvus"), "run", "standalone"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent(),
        )
    listener.listen(128)
    threading.Thread(target=forward, args=(listener, port), daemon=True).start()
    print(json.dumps({"pid": server.pid, "isolated": isolated}), flush=True)

    left = threading.Event()

    def watch() -> None:
        server.wait()
        if not left.is_set():
            os._exit(3)

    threading.Thread(target=watch, daemon=True).start()
    sys.stdin.buffer.read()
    # Nobody can join any more
    sys.stdin.close()
    left.set()
    server.kill()
    server.wait()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
