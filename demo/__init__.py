"""The demo application; run it with `make demo`."""
