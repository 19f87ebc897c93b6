"""What a call through the gateway costs, beside other proxies, on this machine. See README.md; `python -m tests.bench`."""
