"""`deepgen logs ID`: what the ranks of a job print."""

from __future__ import annotations

from collections.abc import Sequence

from ...kernel.errors import UserError
from .arguments import JSON, REMOTE, Given, Option, help_of, read
from .display import id_of, note, print_json, state_of
from .follow import LAUNCHER, LogPaper, follow

OPTIONS = (
    Option("follow", "", "go on until the job has ended; Ctrl-C leaves it running", short="f"),
    Option("rank", "N", "that rank, `launcher` or `all`; by default rank 0; may be given again, or as 0,1", many=True),
    Option("tail", "BYTES", "begin so many bytes before the end, such as 4096 or 64k"),
    Option("attempt", "N", "of that attempt; by default the newest"),
    JSON,
    *REMOTE,
)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen logs --help` prints."""
    text = "Prints the log of one rank byte by byte; of several, line by line with the rank before each."
    return help_of("logs ID [-f] [--rank N] [--tail BYTES] [--attempt N] [-o json]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Prints the logs."""
    given = read("logs", arguments, OPTIONS)
    name = given.only(1, 1, "one job id")[0]
    ranks, tail, attempt = _ranks(given), _tail(given), given.number("attempt", 1)
    with given.client() as client:
        job = client.find(name)
        if given.has("follow") and attempt is None:
            if job.attempt == 0:
                note(f"{id_of(job)} is {state_of(job)}; its log follows when it has started")
            follow(client, job, ranks=ranks, tail=tail, as_json=given.as_json, states=False)
            return 0
        number = attempt or job.attempt
        if number == 0:
            note(f"{id_of(job)} has not started, so there is no log; `deepgen explain {id_of(job)}` says why")
            return 0
        paper, printed = LogPaper(len(ranks) != 1), False
        try:
            for chunk in client.logs(f"{job.name}/attempts/{number}", ranks, given.has("follow"), tail):
                printed |= bool(chunk.data)
                if given.as_json:
                    print_json(chunk)
                else:
                    paper.write(chunk)
        finally:
            paper.close()
        if not printed and not given.as_json and LAUNCHER not in ranks and ranks:
            note(f"nothing is printed there; `deepgen logs {id_of(job)} --rank all` also shows the launcher's log")
    return 0


def _ranks(given: Given) -> list[int]:
    """The ranks that are asked for; none for all."""
    ranks: list[int] = []
    for word in (word.strip() for text in given.values.get("rank", ["0"]) for word in text.split(",")):
        if word == "all":
            return []
        if word != "launcher" and not (word.isascii() and word.isdecimal()):
            raise UserError(f"--rank {word} is no rank; give a number from 0 on, `launcher` or `all`")
        ranks.append(LAUNCHER if word == "launcher" else int(word))
    return ranks


def _tail(given: Given) -> int:
    text = given.one("tail")
    if text is None:
        return 0
    factor = {"k": 1 << 10, "m": 1 << 20}.get(text[-1:].lower(), 1)
    digits = text if factor == 1 else text[:-1]
    if not (digits.isascii() and digits.isdecimal()) or int(digits) == 0:
        raise UserError(f"--tail {text} is no number of bytes; write 4096, 64k or 1m")
    return int(digits) * factor
