"""Real Redis servers for tests: one, a cluster, Sentinels; and a proxy that misbehaves on the way to one."""
