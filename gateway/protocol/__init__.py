"""WHAT THE BYTES MEAN. Pure: no await, clock, log, random, or socket."""
