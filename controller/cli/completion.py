"""`deepgen completion bash|zsh|fish`: a script with which the shell completes commands, options, jobs and scenes."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from ...kernel.errors import DeepgenError, UserError, did_you_mean
from .arguments import Option, read

OPTIONS: tuple[Option, ...] = ()
SHELLS = ("bash", "zsh", "fish")
STATES = {
    "cancel": ("QUEUED", "STARTING", "RUNNING", "SUSPENDING", "SUSPENDED", "CANCELLING"),
    "suspend": ("QUEUED", "STARTING", "RUNNING"),
    "resume": ("SUSPENDED", "SUSPENDING"),
    "retry": ("SUCCEEDED", "FAILED", "CANCELLED"),
    "show": (),
    "watch": (),
    "logs": (),
    "explain": (),
    "fetch": (),
}
"""The commands that take a job's id, with the states in which it makes sense; none for all."""
TAKE_SCENES = ("run", "check", "submit")
_LISTED = 300

_BASH = """\
# deepgen: `source <(deepgen completion bash)`, or put it into ~/.local/share/bash-completion/completions/deepgen
_deepgen() {
    local word=${COMP_WORDS[COMP_CWORD]} words=
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        words='@COMMANDS@'
    elif [[ $word == -* ]]; then
        case ${COMP_WORDS[1]} in
@OPTIONS@
        esac
    else
        case ${COMP_WORDS[1]} in
            @JOBS@) words=$(deepgen completion jobs "${COMP_WORDS[1]}" 2>/dev/null) ;;
            @SCENES@) ((COMP_CWORD == 2)) && words=$(deepgen completion scenes 2>/dev/null) ;;
            new) ((COMP_CWORD == 2)) && words='@KINDS@' ;;
            completion) words='@SHELLS@' ;;
        esac
    fi
    local IFS=$' \\t\\n'
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _deepgen deepgen
"""
_ZSH = """\
#compdef deepgen
# deepgen: `source <(deepgen completion zsh)` after compinit, or put it into a folder of $fpath as _deepgen
_deepgen() {
    local -a found
    if ((CURRENT == 2)); then
        found=(@DESCRIBED@)
        _describe command found
        return
    fi
    if [[ ${words[CURRENT]} == -* ]]; then
        case ${words[2]} in
@OPTIONS@
        esac
    else
        case ${words[2]} in
            @JOBS@) found=(${(f)"$(deepgen completion jobs ${words[2]} 2>/dev/null)"}) ;;
            @SCENES@) ((CURRENT == 3)) && found=(${(f)"$(deepgen completion scenes 2>/dev/null)"}) ;;
            new) ((CURRENT == 3)) && found=(@KINDS@) ;;
            completion) found=(@SHELLS@) ;;
        esac
    fi
    compadd -a found || _files
}
if [[ $funcstack[1] == _deepgen ]]; then _deepgen "$@"; else compdef _deepgen deepgen; fi
"""


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen completion --help` prints."""
    return (
        "usage: deepgen completion bash|zsh|fish\n\n"
        "Prints a script that completes commands, options, jobs and scenes:\n"
        "  source <(deepgen completion bash)       in ~/.bashrc\n"
        "  source <(deepgen completion zsh)        in ~/.zshrc, after compinit\n"
        "  deepgen completion fish | source        in ~/.config/fish/config.fish"
    )


def main(arguments: Sequence[str]) -> int:
    """Prints the script, or (`jobs`, `scenes`, which the script calls) words."""
    given = read("completion", arguments, OPTIONS)
    words = given.only(1, 2, "bash, zsh or fish")
    if words[0] in ("jobs", "scenes"):
        for word in _jobs(words[1] if len(words) > 1 else "") if words[0] == "jobs" else _scenes():
            print(word)
        return 0
    if len(words) > 1:
        raise UserError(f"'{words[1]}' is one word too many; deepgen completion takes bash, zsh or fish")
    if words[0] not in SHELLS:
        near = did_you_mean(words[0], SHELLS) or f"; there are {', '.join(SHELLS)}"
        raise UserError(f"there is no script for '{words[0]}'{near}")
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[words[0]](), end="")
    return 0


def _jobs(command: str) -> list[str]:
    """Ids for a command; none where no controller answers, as nobody reads messages in the middle of typing."""
    from .display import id_of
    from .jobs import choice

    states = STATES.get(command, ())
    try:
        with read("completion", (), ()).client(patience=0.0) as client:
            client.timeout = 2.0
            return [id_of(job) for job in client.list_jobs(choice(states) if states else "", limit=_LISTED)]
    except DeepgenError:
        return []


def _scenes() -> list[str]:
    from .scenes import shelf

    return sorted(shelf())


def _options() -> dict[str, list[str]]:
    """The options of each command that declares them."""
    from . import COMMANDS

    found = {}
    for name in COMMANDS:
        options: Sequence[Option] = getattr(
            importlib.import_module(f".{name.replace('-', '_')}", __package__), "OPTIONS", ()
        )
        if options:
            found[name] = [f"--{option.name}" for option in options]
    return found


def _bash() -> str:
    lines = [f"            {name}) words='{' '.join(options)}' ;;" for name, options in _options().items()]
    return _filled(_BASH, "\n".join(lines))


def _zsh() -> str:
    lines = [f"            {name}) found=({' '.join(options)}) ;;" for name, options in _options().items()]
    return _filled(_ZSH, "\n".join(lines))


def _filled(script: str, options: str) -> str:
    from . import COMMANDS
    from .new import KINDS

    described = " ".join(f"'{name}:{_quoted(text)}'" for name, text in COMMANDS.items())
    for mark, text in (
        ("@COMMANDS@", " ".join(COMMANDS)),
        ("@DESCRIBED@", described),
        ("@OPTIONS@", options),
        ("@JOBS@", "|".join(STATES)),
        ("@SCENES@", "|".join(TAKE_SCENES)),
        ("@SHELLS@", " ".join(SHELLS)),
        ("@KINDS@", " ".join(KINDS)),
    ):
        script = script.replace(mark, text)
    return script


def _fish() -> str:
    from . import COMMANDS
    from .new import KINDS

    begin = "complete -c deepgen -n '__fish_seen_subcommand_from"
    lines = ["# deepgen: `deepgen completion fish | source`"]
    for name, text in COMMANDS.items():
        lines.append(f"complete -c deepgen -n __fish_use_subcommand -f -a {name} -d '{_quoted(text)}'")
    for name in STATES:
        lines.append(f"{begin} {name}' -f -a '(deepgen completion jobs {name})'")
    for name in TAKE_SCENES:
        lines.append(f"{begin} {name}' -a '(deepgen completion scenes)'")
    for command, words in (("completion", SHELLS), ("new", KINDS)):
        lines += [f"{begin} {command}' -f -a {word}" for word in words]
    for name, options in _options().items():
        for option in options:
            lines.append(f"{begin} {name}' -l {option.removeprefix('--')}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace("'", "").replace(":", "")
