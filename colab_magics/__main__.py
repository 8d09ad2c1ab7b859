"""The shell face: ``colab-magics sync every=5m``. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from . import __version__
from .errors import ColabMagicsError, InvalidInput, RunsFailed, did_you_mean
from .ui import INTERRUPTED
from .verbs import VERBS, load, subcommands


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after the program's name; this process's by default.

    Returns
    -------
    int
        0, or 1 for an error, 2 for wrong words, 130 after Ctrl-C; of a command that was waited for, its own.
    """
    try:
        result = _run(list(sys.argv[1:] if argv is None else argv))
        if result is not None and not getattr(result, "shown", False):
            from .faces.shell import as_text

            print(as_text(result))  # noqa: T201
        sys.stdout.flush()
        if stay := getattr(result, "stay", None):
            stay()  # what is open in this process, such as a port, until Ctrl-C
    except BrokenPipeError:
        # `colab-magics jobs | head` closed its end: nothing is wrong, and Python must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ColabMagicsError as error:
        from .faces.shell import error_text

        print(f"error: {error_text(error)}", file=sys.stderr)  # noqa: T201
        return 2 if isinstance(error, InvalidInput) else error.status if isinstance(error, RunsFailed) else 1
    except KeyboardInterrupt as interrupt:
        print(" ".join(map(str, interrupt.args)) or "interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    return 0


def _run(words: list[str]) -> object:
    from .faces.app import call, choose
    from .faces.help_text import overview, verb_help
    from .faces.logs import set_log_level
    from .faces.shell import install
    from .faces.signature import SHELL, options, positionals, takes_others
    from .line import Token

    set_log_level()
    install()
    if not words or words[0] in ("--help", "-h", "help"):
        return overview()
    if words[0] in ("--version", "-V"):
        return f"colab-magics {__version__}"
    if words[0] == "completion":
        from .faces.shell_completion import answer

        return answer(words[1:])
    name, rest = words[0], None
    if name not in VERBS:
        raise did_you_mean(name, VERBS, kind="verb of colab-magics")
    words = words[1:]
    if "--" in words:
        at = words.index("--")
        words, rest = words[:at], words[at + 1 :]
    if "--help" in words or "-h" in words:
        return verb_help(name, words[0] if words[0] in subcommands(load(name)) else None, SHELL)
    function = choose(name, words, SHELL)[0]
    known = options(function)
    # The shell has taken the quotes: what reads as an option of nobody is a text with spaces, such as a note.
    taken = bool(positionals(function)) and not takes_others(function)
    tokens = [
        Token(word, quoted=taken and " " in word and word.partition("=")[0].replace("_", "-") not in known)
        for word in words
    ]
    return call(name, [token.as_option().text for token in tokens], rest, body=None, face=SHELL)


if __name__ == "__main__":
    sys.exit(main())
