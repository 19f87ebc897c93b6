"""Programs that the tests need and the gateway doesn't: Node with the conformance suite and clients in other generations."""
