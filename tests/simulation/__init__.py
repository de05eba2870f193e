"""The token core in one process with a simulated clock, network, database and crashes, judged at each step.

    python -m tests.simulation --seed 7 --steps 1000000      a run; a violation is printed with its seed
    python -m tests.simulation --replay 7                    the same run, with a trace of its last steps

The workers run the product's own modules: each has copies of them (copies.py), as a process would, on an
event loop whose time is simulated (loop.py). Their statements go over a network that loses and delays
(network.py) to a database that executes what the core sends (server.py) and is held to PostgreSQL by
test_same_as_postgresql.py. Who may do what is judged by code of its own (judge.py).
Source: docs/decisions/0021-simulation.md.
"""
