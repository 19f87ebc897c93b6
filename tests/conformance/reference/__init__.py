"""The reference server: has every fixture that the official conformance suite asks of a server, in both eras.

    python -m tests.conformance.reference --port 0

The fixtures' names and contents are the suite's own (each scenario of `@modelcontextprotocol/conformance` says what it
needs). They are told in four rooms: `contents` (what simply is there), `questions` (what asks the client back),
`rounds` (what only 2026-07-28 has) and `events` (what makes a stream resumable).
"""
