"""WHAT AILS A CLIENT. The checks of `mcp-gateway doctor`: each looks at one thing and says what it saw and how to mend it."""
