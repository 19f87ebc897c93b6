"""WHAT WE ARE TOLD. File and environment become a frozen `Settings`; the only reader of `os.environ`."""
