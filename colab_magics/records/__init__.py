"""One run is one folder, and the folder is the whole truth.

Each file has one writer and is written by rename:

=================  =========  ==========================================================================
file               writer     what it holds
=================  =========  ==========================================================================
run.json           submitter  what to execute: payload, parameters, engine, code hashes, commit, attempt; how earlier
                              attempts ended
source.ipynb       submitter  the notebook without outputs, as it stood at ``%fork``
state.json         runner     phase, cell, heartbeat, process, GPUs, what it uses, its peaks, its start, exit, error
verdict.json       scheduler  what the runner cannot say of itself: killed, lost, cancelled
notebook.ipynb     runner     the executed notebook, up to date while it runs
log.txt            runner     everything that was printed, appended to over all attempts
.notebook….tmp     runner     the journal of the executed notebook while it runs (see `colab_magics.kernels.journal`)
metrics.jsonl      payload    what it reports of itself, a line each (see `colab_magics.records.metrics`)
attempt_N.ipynb    submitter  executed notebooks of earlier attempts
=================  =========  ==========================================================================

A run's status is *derived* by reading them; nothing that was said once is believed when the process is gone. What feeds
the runs of a job keeps its own files in the job's folder ``.scheduler``.

The room lies below the engines: they, the payloads and the runner find here what a run is, and how its files are named.
"""
