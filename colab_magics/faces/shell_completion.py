"""Tab in bash, zsh and fish: a short script for each, which asks this program what can stand there.

cyclopts writes such scripts, too. They know neither ``key=value`` nor anything that is not fixed, such as runs and
metrics; this way all faces complete the same.
"""

from __future__ import annotations

import re

from ..errors import InvalidInput, did_you_mean
from ..verbs import VERBS
from .completion import candidates

WORD = "completion"
"""The program's word for it: ``colab-magics completion bash``."""
_ASKS = "--line"

_BASH = r"""_colab_magics() {
    local line=${COMP_LINE:0:COMP_POINT} word=${COMP_WORDS[COMP_CWORD]}
    local full=${line##*[[:space:]]}
    # Words may end at = or : for bash; what stands before that is not replaced.
    [[ $word == [=:] ]] && word=
    mapfile -t COMPREPLY < <(colab-magics completion --line "$line" 2>/dev/null)
    COMPREPLY=("${COMPREPLY[@]#"${full%"$word"}"}")
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/:] ]] && compopt -o nospace
}
complete -F _colab_magics colab-magics
"""
_ZSH = r"""#compdef colab-magics
_colab_magics() {
    local -a found
    found=(${(f)"$(colab-magics completion --line "${words[1,CURRENT-1]} $PREFIX" 2>/dev/null)"})
    compadd -S '' -- ${(M)found:#*[=/:]}
    compadd -- ${found:#*[=/:]}
}
compdef _colab_magics colab-magics
"""
_FISH = r"""function __colab_magics
    colab-magics completion --line (commandline -cp | string collect) 2>/dev/null
end
complete -c colab-magics -f -a '(__colab_magics)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def answer(words: list[str]) -> str:
    """Answer ``colab-magics completion SHELL`` with its script, and a script's question with a word a line.

    Raises
    ------
    InvalidInput
        For a shell that there is no script for.
    """
    if len(words) == 2 and words[0] == _ASKS:
        return "\n".join(found(words[1]))
    if len(words) != 1:
        raise InvalidInput("Which shell?", f"Write colab-magics {WORD} {'|'.join(SCRIPTS)}")
    if words[0] not in SCRIPTS:
        raise did_you_mean(words[0], SCRIPTS, kind=f"shell of colab-magics {WORD}")
    return SCRIPTS[words[0]].rstrip("\n")


def found(line: str) -> list[str]:
    """Return the words that can stand at the end of a command line."""
    after = re.split(r"(?:^|[\s/;&|(])colab-magics\s+", line)[-1].lstrip()
    words = re.split(r"\s+", after)
    if len(words) == 1:
        return [word for word in (*VERBS, WORD) if word.startswith(after)]
    if words[0] == WORD:
        return [shell for shell in SCRIPTS if len(words) == 2 and shell.startswith(words[1])]
    items = _candidates(after)
    if re.fullmatch(r"--[\w-]*", words[-1]):
        # A shell's user may begin any option with dashes.
        start = after[: -len(words[-1])] + words[-1][2:].replace("-", "_")
        items += [f"--{item.replace('_', '-')}" for item in _candidates(start) if re.fullmatch(r"\w+=", item)]
    return items


def _candidates(text: str) -> list[str]:
    known = candidates(f"%{text}")
    return known[1] if known is not None else []
