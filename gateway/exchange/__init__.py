"""HOW IT GOES THERE AND BACK. What one exchange holds, the upstream call, and the ways an answer reaches its client."""
