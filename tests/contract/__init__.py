"""One suite per port, over what stands in for the thing and over the real thing."""
