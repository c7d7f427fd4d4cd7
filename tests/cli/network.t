#!/bin/sh
# What a VM's network process lets through (tests/lib/network.py), in namespaces of the test's own.
exec python3 "$MVM_SOURCE/tests/lib/network.py"
