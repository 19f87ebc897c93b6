"""How a request looks on the wire: the bytes of its head (RFC 9112 §3, §5)."""

from gateway.ports import Headers


def encode_opening(target: bytes, host_header: bytes, *more: bytes) -> bytes:
    """What every head for one endpoint has after its method; `more` are whole header lines."""
    return b"\r\n".join((b" %b HTTP/1.1" % target, b"host: %b" % host_header, *more))


def encode_head(method: bytes, opening: bytes, headers: Headers, body_bytes: int) -> bytes:
    """The head of a request whose body has `body_bytes`. Raises ValueError when a header would break out of its line."""
    lines = [method + opening, *map(b": ".join, headers)]
    if body_bytes or method == b"POST":
        lines.append(b"content-length: %d" % body_bytes)
    head = b"\r\n".join(lines)
    # A header taken from elsewhere must not become two (RFC 9110 §5.5): one break between lines, and none within.
    breaks = len(lines) - 1 + opening.count(b"\n")
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        raise ValueError("a request header holds a line break or a NUL")
    return head + b"\r\n\r\n"
