"""ONE URL FOR ALL. Which member of an aggregate a request is for; or what all of them say, made one.

A request for one member is narrowed to it: from then on the exchange is one with that backend, on its part of the session,
and goes the way of every other. Only what concerns all (handshakes, lists, subscriptions) is answered in this room.
"""
