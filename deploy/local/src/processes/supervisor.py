"""Runs the child processes of one recwatch program, and never lets them outlive it.

Commands come as JSON lines on standard input, events go out as JSON lines on standard output. Standard input closes when
the program ends, however it ends: then every process group that was not released is killed, the folders named for
removal are removed, and this script ends. It is a process of its own because it must see the program's death from
outside, and because a child forked from something this small has its memory measured right (Linux counts the parent's
memory at the fork into a child's peak).

    {"op": "start", "id": 1, "argv": [...], "env": {...}, "cwd": null, "log": "...", "output": null, "releasable": false}
    {"op": "signal", "id": 1, "signal": "SIGKILL", "group": true}
    {"op": "release", "id": 1}          it may go on after the end; it must have been started with "releasable"
    {"op": "remove", "path": "..."}     remove this folder at the end
    {"op": "keep", "path": "..."}       do not, after all

    {"event": "started", "id": 1, "pid": 123}      {"event": "failed", "id": 1, "message": "..."}
    {"event": "ended", "id": 1, "code": 0, "signal": null, "cpu_seconds": 0.1, "peak_rss_bytes": 1048576}
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1
END_SECONDS = 10

# Reentrant, because the SIGTERM handler runs in the main thread, which may hold it.
changed = threading.Condition(threading.RLock())
running = {}  # pid -> (id, Popen)
released = set()  # ids
removals = set()  # paths
supervisor = os.getpid()
libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def tell(event):
    try:
        os.write(1, (json.dumps(event) + "\n").encode())
    except OSError:
        pass  # the program is gone: the end of standard input says so as well


def die_with_supervisor():
    """The second line of defence, in the child: for a supervisor that is itself killed."""
    if libc is not None:
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != supervisor:  # it was killed before it could be watched
            os._exit(1)


def start(command):
    log = open(command["log"], "ab")
    output = open(command["output"], "wb") if command["output"] else log
    with log, output, changed:
        try:
            child = subprocess.Popen(
                command["argv"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env={**os.environ, **command["env"]},
                cwd=command["cwd"],
                start_new_session=True,  # its own group: Ctrl-C is for the program, and a kill reaches grandchildren
                preexec_fn=None if command["releasable"] else die_with_supervisor,
            )
        except (OSError, subprocess.SubprocessError) as error:
            tell({"event": "failed", "id": command["id"], "message": str(error)})
            return
        running[child.pid] = (command["id"], child)
        tell({"event": "started", "id": command["id"], "pid": child.pid})
        changed.notify_all()


def send(command):
    with changed:
        for pid, (identifier, _) in running.items():
            if identifier == command["id"]:
                number = getattr(signal, command["signal"])
                try:
                    os.killpg(pid, number) if command["group"] else os.kill(pid, number)
                except ProcessLookupError:
                    pass  # ended, about to be reaped


def reap():
    while True:
        with changed:
            while not running:
                changed.wait()
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            continue  # a start that failed was reaped by Popen
        with changed:
            if pid not in running:
                continue
            identifier, child = running.pop(pid)
            kill_group(pid)
            child.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
            tell({
                "event": "ended",
                "id": identifier,
                "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
                "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
                "cpu_seconds": usage.ru_utime + usage.ru_stime,
                "peak_rss_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            })
            changed.notify_all()


def kill_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def left():
    return [pid for pid, (identifier, _) in running.items() if identifier not in released]


def end(*_):
    with changed:
        for pid in left():
            kill_group(pid)
        changed.wait_for(lambda: not left(), timeout=END_SECONDS)
        for path in removals:
            shutil.rmtree(path, ignore_errors=True)
    os._exit(0)


def main():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=reap, daemon=True).start()
    for line in sys.stdin:
        command = json.loads(line)
        operation = command["op"]
        if operation == "start":
            try:
                start(command)
            except OSError as error:  # the log cannot be opened
                tell({"event": "failed", "id": command["id"], "message": str(error)})
        elif operation == "signal":
            send(command)
        elif operation == "release":
            released.add(command["id"])
        elif operation == "remove":
            removals.add(command["path"])
        elif operation == "keep":
            removals.discard(command["path"])
    end()


main()
