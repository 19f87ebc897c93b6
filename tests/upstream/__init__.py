"""Tests of the room that calls backends, over real loopback sockets."""
