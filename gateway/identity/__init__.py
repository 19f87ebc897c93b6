"""WHO IT IS. Tokens, keys and proxies' words, proven; knows issuers and their keys, not what anybody may do."""
