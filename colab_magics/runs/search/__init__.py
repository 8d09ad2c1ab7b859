"""``%fork search=``: runs whose values are chosen by what earlier ones have reported; Optuna chooses them.

`space` reads what the cell says, `study` is Optuna's study, `source` makes its points runs, `start` begins it. A study
is kept nowhere: the folders of its runs are all that there is, and it is made from them anew.
"""
