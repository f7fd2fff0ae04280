"""What the metadata floor's speed claims run: dumps of any size, our code, and the named peers.

`make bench-metadata` runs everything small; `python -m benchmarks.metadata --help` says how to make it
larger.
"""
