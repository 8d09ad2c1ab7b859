"""The verbs as magics: ``%sync every=5m``, ``%%project`` with a body, ``%sync?``, Tab.

`load` and `unload` leave a shell exactly as they found it. Everything that was added to a shell hangs on one
`Extension`, which the shell's own registered magics lead to.
"""

from __future__ import annotations

import contextlib
import re
import sys
from typing import Any

from .. import session
from ..errors import nearest
from ..line import split
from ..verbs import VERBS
from . import notebook_ui, skip, stop
from .front_end import is_question
from .logs import set_log_level, unset_log_level
from .signature import MAGIC

_GPU_CLIENTS = {"torch", "tensorflow", "jax", "cupy", "numba", "pycuda", "torch_xla", "libtpu"}
_NOT_FOUND = re.compile(r"magic(?: function)? `(%%?)(\w+)` not found")
"""How IPython says that there is no such magic."""
_EMPTY_CELL = re.compile(rf"%%({'|'.join(VERBS)})(?!\w)")


class Interrupted(KeyboardInterrupt):
    """The user interrupted a verb; shown as one line."""

    def __str__(self) -> str:
        return " ".join(map(str, self.args))

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines() or ["interrupted"]


Interrupted.__name__ = Interrupted.__qualname__ = "KeyboardInterrupt"


class VerbMagic:
    """One verb as a line magic and a cell magic; imports the verb when it is used or asked for help."""

    # What IPython looks for: the words are expanded by us, one at a time, also with a function's local variables.
    _ipython_magic_no_var_expand = True
    needs_local_scope = True

    def __init__(self, extension: Extension, name: str) -> None:
        self.extension = extension
        self.__name__ = name

    def __call__(self, line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None) -> Any:
        name = self.__name__
        try:
            return run_line(name, line, cell, {**self.extension.ip.user_ns, **(local_ns or {})})
        except KeyboardInterrupt as interrupt:
            raise Interrupted(*(interrupt.args or (f"%{name} was interrupted.",))) from None

    def getdoc(self) -> str:
        """Answer ``%verb?``."""
        from .help_text import verb_help

        return verb_help(self.__name__, None, MAGIC)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return self.getdoc()

    @property
    def __wrapped__(self) -> Any:
        """The verb: what shows on hovering is its signature, not that of every magic."""
        from ..verbs import load

        return load(self.__name__)


def run_line(name: str, text: str, cell: str | None, namespace: dict[str, Any]) -> Any:
    """Run one magic: its line, its cell's body, and the variables that the line may name."""
    line = split(text)
    if any(token.text in ("--help", "-h") and not token.quoted for token in line.tokens):
        return _help(name, [token.text for token in line.tokens])
    if session.run_folder() is not None:
        from .in_run import short

        # What the system refuses is told below.
        with contextlib.suppress(OSError):
            if (answer := short(name, line)) is not None:
                return answer()
    # Both imported here: what loading the extension does not need must not delay it.
    from .app import call
    from .expand import expand

    words = []
    for token in line.tokens:
        option = token.as_option()
        key, equals, value = option.text.partition("=") if option is not token else ("", "", option.text)
        words.append(key + equals + expand(value, namespace))
    result = call(name, words, line.rest, body=cell, face=MAGIC)
    if hasattr(type(result), "links_from"):
        # A handle that shows files: what a notebook's link to one looks like, its face alone knows.
        result.links_from = getattr(session.current().ui, "links_from", lambda: None)()
    return result


def _help(name: str, words: list[str]) -> None:
    from ..verbs import load, subcommands
    from .help_text import verb_help

    word = words[0] if words[0] in subcommands(load(name)) else None
    session.current().ui.say(verb_help(name, word, MAGIC))


def _unknown_magic(error: BaseException | None) -> str:
    """Return the magic of ours that one unknown to IPython may have meant, as a question; else an empty text."""
    if type(error).__name__ != "UsageError":
        return ""
    found = _NOT_FOUND.search(str(error))
    near = nearest(found[2], VERBS, cutoff=0.66) if found is not None else None
    return f"→ did you mean {found[1]}{near}?" if found is not None and near else ""


class EmptyCell:
    """Input transformer: a cell magic of ours with an empty body means the line magic.

    It stands first, because IPython refuses an empty cell before any magic can answer.
    """

    def __call__(self, lines: list[str]) -> list[str]:
        first = next((number for number, line in enumerate(lines) if line.strip()), None)
        if first is None or not _EMPTY_CELL.match(lines[first]) or any(line.strip() for line in lines[first + 1 :]):
            return lines
        return [lines[first][1:]]


class Extension:
    """All that `load` added to one shell.

    Parameters
    ----------
    ip : InteractiveShell
        The shell.
    """

    def __init__(self, ip: Any) -> None:
        self.ip = ip
        self.session = ensure_session(ip)
        self.magics = {name: VerbMagic(self, name) for name in VERBS}
        self.empty_cell = EmptyCell()
        self.completion: Any = None
        self.shadowed: dict[tuple[str, str], Any] = {}

    def install(self) -> None:
        """Add everything to the shell."""
        manager = self.ip.magics_manager
        for name, magic in self.magics.items():
            for kind in ("line", "cell"):
                if name in manager.magics[kind]:
                    self.shadowed[kind, name] = manager.magics[kind][name]
            manager.register_function(magic, "line_cell", name)
        self.ip.input_transformers_cleanup.insert(0, self.empty_cell)
        if session.run_folder() is None:  # nobody presses Tab in a run
            from .completion import install

            self.completion = install(self.ip)
        self.ip.events.register("post_run_cell", self.after_cell)

    def after_cell(self, result: Any = None) -> None:
        """Look whether the cell opened a GPU; show what a sync of this notebook has to say since the last cell."""
        if _GPU_CLIENTS & sys.modules.keys() and not self.session.uses_gpu:
            from ..kernels.live import gpu_use_of

            self.session.uses_gpu = gpu_use_of(
                getattr(result, "execution_count", None), getattr(getattr(result, "info", None), "raw_cell", "") or ""
            )
        if unknown := _unknown_magic(getattr(result, "error_in_exec", None)):
            self.session.ui.say(unknown)
        control = sys.modules.get("colab_magics.mirror.control")
        if is_question(self.ip):
            return  # nobody would see it
        if control is None or session.run_folder() is not None:
            return  # this notebook has started none
        for key, text in control.news(self.session.told):
            self.session.told.add(key)
            self.session.ui.warn(text)

    def remove(self) -> None:
        """Take everything away again; magics of the same names that stood there before come back."""
        manager = self.ip.magics_manager
        for name, magic in self.magics.items():
            for kind in ("line", "cell"):
                # Somebody may have registered another magic of that name since: that one stays.
                if manager.magics[kind].get(name) is magic:
                    del manager.magics[kind][name]
                    if (kind, name) in self.shadowed:
                        manager.magics[kind][name] = self.shadowed[kind, name]
            if vars(manager.user_magics).get(name) is magic:
                delattr(manager.user_magics, name)
        if self.empty_cell in self.ip.input_transformers_cleanup:
            self.ip.input_transformers_cleanup.remove(self.empty_cell)
        if self.after_cell in self.ip.events.callbacks["post_run_cell"]:
            self.ip.events.unregister("post_run_cell", self.after_cell)
        stop.remove_guards(self.ip)
        skip.remove(self.ip)
        if self.completion is not None:
            self.completion.remove()
        session.deactivate(self.session)


def installed(ip: Any) -> Extension | None:
    """Return what is loaded in a shell."""
    for magic in ip.magics_manager.magics["line"].values():
        if isinstance(magic, VerbMagic):
            return magic.extension
    return None


def load(ip: Any) -> None:
    """Load the extension into a shell; loading it again replaces what was there."""
    extension = installed(ip)
    if extension is not None:
        extension.remove()
    set_log_level()
    Extension(ip).install()


def unload(ip: Any) -> None:
    """Leave the shell as it was before `load`."""
    extension = installed(ip)
    if extension is not None:
        extension.remove()
    # Also a session that an import made (see `ensure_session`).
    for mine in [s for s in session._active if getattr(s.ui, "ip", None) is ip]:
        session.deactivate(mine)
    unset_log_level()


def ensure_session(ip: Any = None) -> Any:
    """Return the session of a shell; make it when there is none yet.

    ``from colab_magics import sync`` in a notebook calls this too: such a notebook needs no ``%load_ext``.

    Parameters
    ----------
    ip : InteractiveShell, optional
        This process's shell by default; without one nothing is made.
    """
    if ip is None:
        from IPython.core.getipython import get_ipython

        ip = get_ipython()
        if ip is None:
            return None
    for known in session._active:
        if getattr(known.ui, "ip", None) is ip:
            return known
    mine = session.Session(ui=notebook_ui.make(ip))
    session.activate(mine)
    return mine
