"""Runs in a Google Sheet: row 1 keys, row 2 defaults, rows 3 and below a run each.

How the modules lie over each other::

    queue       SheetsQueue: what the contract of `queues.base` is here
    exchanging  claims and ends in one batch · adding, requeueing, columns, probing: the other verbs of the contract
    table       what stands in a tab: columns, runs, drafts
    texts       the words that the protocol keeps in cells · values: cells ↔ a run's parameters
    requests    what is asked of Google, as its REST interface spells it
    client      calls, tried again as far as they may be · budget: not more than Google allows
    auth        who asks · failures: what Google refuses, in words
"""
