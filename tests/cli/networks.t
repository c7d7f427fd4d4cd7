#!/bin/sh
# What members of a named network reach of each other (tests/lib/networks.py), in a namespace of the test's own.
exec python3 "$MVM_SOURCE/tests/lib/networks.py"
