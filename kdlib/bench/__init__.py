"""The benchmark: how fast kdlib is against a plain program, and against what the machine can do.

`python -m kdlib bench` prints a table and writes JSON and a figure. Absolute rates are those of one machine on one day;
what is compared are ratios of rates that were measured in one run, on one machine, in turn.
"""
