"""Keeps a plugin's program: `keeper.py LIFE FOLDER MEETING -- COMMAND`; when its host is gone, so is the program.

It runs in a session of its own, alone with the program. LIFE is the reading end of a pipe that only the host holds: its
end means that the host has closed it or was killed. FOLDER goes with the program, and so does MEETING, the folder in
which ranks tell each other of a program, unless it tells of another. Nothing but the standard library, since a host
waits for it.
"""

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys

LEFT = "shared.json"
"""The file in MEETING with the socket of the program, which is in its FOLDER."""
LOCK = "lock"
"""The one that whoever starts a program holds."""


def main() -> None:
    """Starts the program and ends as it does, with 128 and the signal's number where it was one."""
    life, folders, command = int(sys.argv[1]), (sys.argv[2], sys.argv[3]), sys.argv[5:]
    program = os.environ["DEEPGEN_PLUGIN_FD"]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # a signal may come between two steps of anything, and only a descriptor is not missed then
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda number, frame: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        # what it puts aside goes with the folder, also when it is killed
        child = subprocess.Popen(command, pass_fds=[int(program)], env={**os.environ, "TMPDIR": folders[0]})
    except OSError as error:
        os.write(int(program), f'{{"error": "cannot be started: {error.strerror}"}}\n'.encode())
        os._exit(127)
    os.close(int(program))
    while (code := child.poll()) is None:
        ready, _, _ = select.select([life, woken], [], [])
        if life in ready:
            child.kill()  # so that it writes no more files
            _clean(*folders)
            os.killpg(0, signal.SIGKILL)
        if signal.SIGTERM in os.read(woken, 4096):
            child.send_signal(signal.SIGTERM)
    _clean(*folders)
    os._exit(code if code >= 0 else 128 - code)


def _clean(folder: str, meeting: str) -> None:
    """Deletes what is the program's own."""
    shutil.rmtree(folder, ignore_errors=True)
    if not meeting:
        return
    try:
        with open(os.path.join(meeting, LOCK), encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who holds it starts another program there
            if not _tells_of_another(folder, meeting):
                shutil.rmtree(meeting, ignore_errors=True)
    except OSError:
        return


def _tells_of_another(folder: str, meeting: str) -> bool:
    try:
        with open(os.path.join(meeting, LEFT), encoding="utf-8") as left:
            return f'"{folder}/' not in left.read()
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    main()
