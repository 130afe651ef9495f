"""Claims by one rule: two arms with equal budgets, five paired seeds, one interval, corrected for how many there are.

    PYTHONPATH=bench python -m claims [FAMILY ...] [--table]

`claim` has the records, `rule` the arithmetic, `store` keeps results, `runner` makes them, `table` says what follows
and `publish` writes it down. What an arm does is a function in `work`; what is claimed stands in `family`, one file a
family.
"""
