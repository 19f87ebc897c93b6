"""HOW ANSWERS GO BACK. Modern: one pipe, cut with the client. Legacy: a pump and a follower."""
