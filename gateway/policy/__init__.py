"""WHAT WE DECIDE. Pure; knows the configuration, not the world."""
