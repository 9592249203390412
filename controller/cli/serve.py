"""`deepgen serve`: starts the controller, which queues jobs and runs them on the slots of this machine."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...kernel.endpoints import absolute, parse
from ...kernel.errors import PluginError, UserError
from ..connection import DEFAULT_ADDRESS, state_folder
from .arguments import Given, Option, help_of, read
from .devices import count_gpus
from .display import note

if TYPE_CHECKING:
    from ..serving import Settings

SERVERS = ("grpcs://", "grpc://")
"""What a server of plugins begins with."""
OPTIONS = (
    Option("state", "FOLDER", "jobs, logs and the token are kept there; by default ~/.local/state/deepgen"),
    Option("address", "HOST:PORT", f"where it listens, or unix:PATH; by default {DEFAULT_ADDRESS}"),
    Option("slots", "N", "how many ranks run at once; by default a slot for each GPU, or one where there is none"),
    Option("allow", "FOLDER", "what scenes may read; may be given again; by default the working folder", many=True),
    Option("scenes", "FOLDER", "scenes that can be named; may be given again; by default ./scenes", many=True),
    Option(
        "plugins",
        "FOLDER",
        "scenes may use plugin files and programs in it, or the server at grpcs://HOST:PORT; may be given again; by "
        "default none",
        many=True,
    ),
    Option("tls-cert", "FILE", "certificate; needed on an address that other machines reach"),
    Option("tls-key", "FILE", "the key of --tls-cert"),
    Option("client-ca", "FILE", "ask clients for a certificate that one of these has signed"),
    Option("mlflow-uri", "STORE", "where runs are recorded; by default mlflow.db in the state folder"),
    Option("max-slots-per-user", "N", "how many slots the jobs of one user may hold; by default all"),
    Option("grace", "TIME", "how long ranks that are stopped have for their checkpoint; by default 60s"),
    Option("systemd", "", "print a unit file that starts it with these options, and start nothing"),
)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen serve --help` prints."""
    text = (
        "Serves until Ctrl-C or SIGTERM. What runs goes on meanwhile, and is found again at the next start. The token\n"
        "for clients is in the file `token` of the state folder; the commands on this machine find it by themselves."
    )
    return help_of("serve [--slots N] [--allow FOLDER] [--address HOST:PORT] [--state FOLDER]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Serves."""
    given = read("serve", arguments, OPTIONS)
    given.only(0, 0, "no words")
    if given.has("systemd"):
        _folders(given)
        _servers(given)
        print(_unit(arguments), end="")
        return 0
    from ..serving import serve

    settings = _settings(given)
    return serve(settings, lambda address: _ready(settings, address))


def _settings(given: Given) -> Settings:
    """What the server is told."""
    from ..admission import Roots
    from ..security import Tls
    from ..serving import Settings

    allowed, scenes, plugins = _folders(given)
    slots, devices = _slots(given)
    certificate, key, authority = (given.file(name) for name in ("tls-cert", "tls-key", "client-ca"))
    if (certificate is None) != (key is None):
        raise UserError("--tls-cert and --tls-key belong together; give both or neither")
    if authority is not None and certificate is None:
        raise UserError("--client-ca needs TLS; give --tls-cert and --tls-key, too")
    grace = given.seconds("grace")
    return Settings(
        state=_state(given),
        address=given.one("address") or DEFAULT_ADDRESS,
        slots=slots,
        devices=devices,
        roots=Roots(
            data=allowed,
            scenes=scenes,
            plugins=plugins,
            endpoints=_servers(given),
        ),
        tls=Tls(certificate, key, authority) if certificate is not None and key is not None else None,
        mlflow_uri=given.one("mlflow-uri") or "",
        slots_per_user=given.number("max-slots-per-user", 1),
        grace=60.0 if grace is None else grace,
    )


def _servers(given: Given) -> tuple[str, ...]:
    """The servers of plugins that are allowed; their files are relative to the working folder."""
    named = [text for text in given.values.get("plugins", []) if text.startswith(SERVERS)]
    found = tuple(absolute(text, Path.cwd()) for text in named)
    for text in found:
        try:
            parse(text)
        except PluginError as error:
            raise UserError(str(error).replace("--plugin", "--plugins", 1)) from None
    return found


def _state(given: Given) -> Path:
    text = given.one("state")
    return (Path(text).expanduser() if text else state_folder()).absolute()


def _folders(given: Given) -> tuple[tuple[Path, ...], tuple[Path, ...], tuple[Path, ...]]:
    """(data, scenes, plugins) that are allowed."""
    found = []
    for name in ("allow", "scenes", "plugins"):
        texts = [text for text in given.values.get(name, []) if name != "plugins" or not text.startswith(SERVERS)]
        folders = [Path(text).expanduser().absolute() for text in texts]
        for folder in folders:
            if not folder.is_dir():
                raise UserError(f"--{name} {folder}: no such folder")
        found.append(tuple(folders))
    allowed, scenes, plugins = found
    own = Path("scenes").absolute()
    return allowed or (Path.cwd(),), scenes or ((own,) if own.is_dir() else ()), plugins


def _slots(given: Given) -> tuple[int, tuple[str, ...]]:
    """How many slots there are, and the GPU of each."""
    number, gpus = given.number("slots", 1), count_gpus()
    if not gpus:
        return number or 1, ()
    if number is not None and number > gpus:
        raise UserError(
            f"--slots {number}: there are {gpus} GPUs; CUDA_VISIBLE_DEVICES= before the command uses the CPU"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in visible.split(",")] if visible is not None else [str(gpu) for gpu in range(gpus)]
    return number or gpus, tuple(names[: number or gpus])


def _ready(settings: Settings, address: str) -> None:
    """The line that says that it answers, and what to type next."""
    slots = f"{settings.slots} {'GPU' if settings.devices else 'CPU'} slot{'s' * (settings.slots != 1)}"
    print(f"the controller serves at {address} with {slots}; in another terminal: deepgen submit SCENE", flush=True)
    if settings.tls is not None:
        host, _, port = address.rpartition(":")
        name = socket.gethostname() if host in ("0.0.0.0", "[::]") else host
        note(f"elsewhere first: export DEEPGEN_ADDRESS={name}:{port} DEEPGEN_CA=FILE DEEPGEN_TOKEN_FILE=FILE")
        note("where the files hold the certificate of your authority and a token of `deepgen tokens add USER`")
    elif settings.state != state_folder():
        note(f"there first: export DEEPGEN_ADDRESS={address} DEEPGEN_TOKEN_FILE={settings.state / 'token'}")


def _unit(arguments: Sequence[str]) -> str:
    """A systemd unit of the user, with the options of this command line and the folder it was typed in."""
    options = [word for word in arguments if word != "--systemd"]
    command = [sys.executable, "-m", "deepgen.controller.cli", "serve", *options]
    return f"""\
# deepgen serve --systemd > ~/.config/systemd/user/deepgen.service
# systemctl --user daemon-reload && systemctl --user enable --now deepgen
# loginctl enable-linger    (it then also runs while nobody is logged in)
[Unit]
Description=DeepGen controller
After=network.target

[Service]
Type=notify
WorkingDirectory={_escaped(str(Path.cwd()))}
ExecStart={" ".join(map(_quoted, command))}
Restart=on-failure
# Jobs outlive the controller and are found again at its next start: only the controller itself is stopped.
KillMode=process
# A rank that the kernel ends for lack of memory must not take the controller and the other jobs with it.
OOMPolicy=continue

[Install]
WantedBy=default.target
"""


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "%%")


def _quoted(word: str) -> str:
    plain = all(letter.isalnum() or letter in "/._-:=,+@" for letter in word)
    return word if plain and word else '"' + _escaped(word).replace('"', '\\"').replace("$", "$$") + '"'
