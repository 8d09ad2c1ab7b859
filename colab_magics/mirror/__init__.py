"""Keeping outputs at a Place: one detached process for each (source, Place).

Callers use `control` (`start` with a `state.Config`, `running`, `known`, `fetch`, `hand_over`) and the handle
`sync.Sync`: ``source``, ``place``, ``alive``, ``state()``, ``status()``, ``warning``, ``notices()``, ``now()``,
``wait()``, ``restore()``, ``verify()``, ``stop()``, ``ask(what)``.

States: ``INIT → RESTORING → SCANNING ⇄ IDLE ⇄ SYNCING``; deletes wait for the user's word → ``WAITING``; the guard says
no → ``HELD``; an error → ``BACKOFF``; SIGTERM → ``FLUSHING → STOPPED``. ``GONE`` is said by the
handle of a process that has died.

What ``status()`` holds (``status.json``; times named ``at``, ``since`` are seconds since the epoch, ``began`` is of the
monotonic clock, which all processes of a boot share):

==================  ==================================================================================================
state, reason       the word, and why (HELD, BACKOFF, STOPPED)
identity, beat      who it is (see `process.identity`); last heartbeat (``heartbeat`` is a file that is touched)
began               when the last attempt began
good                the last full success: ``{"began", "at", "files", "bytes"}``: all that had changed before
                    ``began`` was handed over by ``at``
restore             ``{"mode", "ok", "began", "at", "files", "conflicts", "error"}``
heard               when the requests were made that the last attempt knew of (``push``, ``restore``, ``audit``,
                    ``delete``, ``delete_earlier``, ``take_over``), on the monotonic clock
audit               ``{"at", "began", "lacking"}`` of the last comparison of everything with the Place
scan                ``{"at", "seconds", "files"}`` of the last full look
pending             ``{"files", "bytes", "oldest"}``: changed, not handed over; since when
handed              ``{"files", "bytes", "at"}`` by this process so far
uploaded            True, or None where nobody can know (Drive)
busy, busy_count    ``[{"path", "since", "whole"}]``: open for writing; when a whole copy was handed over last
held_deletes        ``{"count", "reason", "names"}``, or an empty text
following           whether deletions are followed
earlier             ``{"count", "names"}`` of what was gone before they were, and stays; or an empty text
trash               ``{"files", "bytes"}`` in ``.sync_trash`` at the Place
conflicts           files moved to ``.sync_conflict`` by this process
free                bytes free at the Place, or None
observer, restarts  ``watching`` or why not; how often it was made anew
skipped, skipped_count    links (on Drive), sockets, fifos …
refused             ``{path: why}``: names the Place cannot hold, what cannot be read, folders whose rights are refused
owner               who else keeps this folder of the Place, if anybody
error, error_at     the last error
notices             ``[{"key", "at", "text"}]``
flushed             after the end: whether the last pass went well
gone                after the end: whether it ended because the folder is gone
==================  ==================================================================================================

Nothing is forced to the disk (fsync) at the Place. Drive's mount has nothing to force: it uploads later, whatever it is
asked, and tells a full disk when a file is closed. NFS and SMB write when a file is closed. On a disk of this machine
one syncfs a batch waits for whatever a training writes to that disk (measured .25 s for 700 MB on a fast one), fsync of
each file .5 ms. All that would win is the last half minute, when the machine loses its power: a rename over the old
file, after the new one is closed, is what the usual file systems keep in this order.

At the Place, in the folder that is kept: ``.sync_trash/`` (deleted by ``--delete``), ``.sync_conflict/`` (what lost
against a newer version), ``.sync_versions/`` (``keep=``), ``.colab_magics_owner.json``, ``.colab_magics_trash.json``
(how long the trash was kept), and while a file is copied
``.~colab_magics.*``. None of them is ever restored.
"""
