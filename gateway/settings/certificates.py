"""The PEM files that a backend's `tls:` names: whether they can be read, and used together, before any call needs them."""

import hashlib
import ssl
from pathlib import Path
from typing import Final

from gateway.policy.backends import Tls
from gateway.settings.expansions import beside, explain
from gateway.settings.fields import TlsShape
from gateway.settings.nodes import Node
from gateway.settings.problems import Loc, Problem, problem_at

_MAX_PEM_BYTES: Final = 4 * 1024 * 1024  # twenty times the Mozilla roots
_KEYS: Final = ("ca_file", "client_cert", "client_key")


class Certificates:
    """Reads the files of one `tls:` mapping; `problems` and `files` grow on the way."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.files: list[str] = []

    def read(self, shape: TlsShape, root: Node, loc: Loc) -> Tls:
        """The TLS settings with absolute paths, and a digest of what the files hold now."""
        paths = {
            key: str(beside(root.find((*loc, key)).place, getattr(shape, key)).absolute())
            for key in _KEYS
            if getattr(shape, key)
        }
        digest = hashlib.sha256()
        sound = [self.read_pem(path, root, (*loc, key), digest) for key, path in paths.items()]
        if all(sound):
            self.try_out(paths, root, loc)
        return Tls(server_name=shape.server_name, digest=digest.hexdigest()[:12] if paths else "", **paths)

    def read_pem(self, path: str, root: Node, loc: Loc, digest: "hashlib._Hash") -> bool:
        self.files.append(path)
        try:
            with Path(path).open("rb") as file:
                raw = file.read(_MAX_PEM_BYTES)
        except (OSError, ValueError) as error:
            self.report(root, loc, f"can't read {path}: {explain(error)}")
            return False
        digest.update(hashlib.sha256(raw).digest())
        return True

    def try_out(self, paths: dict[str, str], root: Node, loc: Loc) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ca_file := paths.get("ca_file"):
            try:
                tls.load_verify_locations(ca_file)
            except (OSError, ValueError):
                self.report(root, (*loc, "ca_file"), f"{ca_file} holds no PEM certificates")
        if "client_cert" in paths and "client_key" in paths:
            try:
                tls.load_cert_chain(paths["client_cert"], paths["client_key"], _refuse_password)
            except (OSError, ValueError) as error:
                said = error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)
                message = f"can't be used together with client_key: {said.lower().replace('_', ' ')}"
                self.report(root, (*loc, "client_cert"), message)

    def report(self, root: Node, loc: Loc, message: str) -> None:
        self.problems.append(problem_at(root.find(loc).place, loc, message))


def _refuse_password() -> str:
    """Without it OpenSSL would ask for the password on the terminal, and `serve` would wait for ever."""
    raise ValueError("the key is encrypted: store it without a password")
