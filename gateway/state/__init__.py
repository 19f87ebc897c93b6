"""WHAT WE REMEMBER. What a client holds sealed for us, and what a process may forget."""
