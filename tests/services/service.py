"""What the services for tests share: installing once, free ports, processes that end with their starter."""

import atexit
import contextlib
import ctypes
import fcntl
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HOME = ROOT / "build/services"


@contextlib.contextmanager
def locked(folder):
    """Parallel test jobs install one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "install.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def quiet(*command, cwd=None, env=None):
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command[:3]))} …: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def end_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Process:
    """A server: started, waited for, ended."""

    def __init__(self, command, log, ready, env=None, cwd=None, seconds=60, **how):
        """`ready()` says when it serves; `how` goes to Popen (user, group)."""
        self.log = pathlib.Path(log)
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=cwd,
                                            start_new_session=True, preexec_fn=end_with_parent, **how)
        give_up = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None or time.monotonic() > give_up:
                self.end(signal.SIGKILL)
                raise RuntimeError(f"{command[0]} did not start: {self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)

    def end(self, how=signal.SIGTERM):
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


class Service:
    """A server with a folder of its own, gone with it when the tests end. What can be started again has `restart`, which sets `process`."""

    gentle = signal.SIGTERM

    def __init__(self, home):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=home))
        self.process = None
        atexit.register(self.stop)

    def end(self, how=None):
        """The process is gone; its data stays."""
        if self.process is not None:
            self.process.end(how or self.gentle)
            self.process = None

    def kill(self):
        self.end(signal.SIGKILL)

    def stop(self):
        atexit.unregister(self.stop)
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)


def listening(port):
    with contextlib.closing(socket.socket()) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
