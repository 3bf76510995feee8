"""How fast needle_lab is beside its peers: `python -m benchmarks`, `make bench` or `needle-lab bench`.

    timing.py       run contenders in turn, and the ratios of their times, round by round
    workloads.py    what is timed: one function for each line of the table
    twins.py        the same models in PyTorch
    growth.py       how time grows with batch, image size, sequence length and parameters
    report.py       the table, the JSON file and the plot
    __main__.py     the command; each thread count runs in a process of its own
"""
