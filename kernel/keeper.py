"""Keeps a plugin's program: `python keeper.py LIFE FOLDER -- COMMAND`; when its host is gone, so is the program.

It runs in a session of its own, alone with the program. LIFE is the reading end of a pipe that only the host holds: its
end means that the host has closed it or was killed. Nothing but the standard library, since a host waits for it.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Starts the program and ends as it does, with 128 and the signal's number where it was one."""
    life, folder, command = int(sys.argv[1]), sys.argv[2], sys.argv[4:]
    program = os.environ["DEEPGEN_PLUGIN_FD"]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # what it puts aside goes with the folder, also when it is killed
        child = subprocess.Popen(command, pass_fds=[int(program)], env={**os.environ, "TMPDIR": folder})
    except OSError as error:
        os.write(int(program), f'{{"error": "cannot be started: {error.strerror}"}}\n'.encode())
        os._exit(127)
    signal.signal(signal.SIGTERM, lambda number, frame: child.send_signal(number))
    os.close(int(program))
    threading.Thread(target=_end_with_the_host, args=(life, folder), daemon=True).start()
    code = child.wait()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(code if code >= 0 else 128 - code)


def _end_with_the_host(life: int, folder: str) -> None:
    os.read(life, 1)
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
