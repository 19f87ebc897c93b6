"""From a file, the environment and the command line to `Settings`, or to all that is wrong with them at once.

Nothing is remembered between two calls; a reload is a second call.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path

from gateway.policy.backends import Tls
from gateway.policy.drains import Drain
from gateway.settings.admissions import is_asking
from gateway.settings.certificates import Certificates
from gateway.settings.checks import Checks
from gateway.settings.drafts import Draft
from gateway.settings.environments import CONFIG, read_environ
from gateway.settings.expansions import Expander, beside
from gateway.settings.grants import compile_grants
from gateway.settings.masks import MaskedBytes, MaskedUrl
from gateway.settings.nodes import Node, node_of
from gateway.settings.problems import ConfigurationInvalid, Place, Problem, problem_at
from gateway.settings.session_keys import KEY_BYTES, parse_key, split_keys
from gateway.settings.settings import Settings, with_digest
from gateway.settings.shapes import FileShape
from gateway.settings.sites import compile_site


def load(
    path: Path | None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None
) -> Settings:
    """The settings that file, environment (the process's own where None) and overrides (dotted keys) add up to.

    Without `path`, MCPGW_CONFIG names the file. Raises ConfigurationInvalid with every mistake found.
    """
    environ = read_environ() if environ is None else environ
    chosen = path or (Path(environ[CONFIG]) if environ.get(CONFIG) else None)
    draft = Draft(environ, Node({}, Place(str(chosen or "configuration"))))
    if chosen is None:
        message = f"there is no configuration: give --config FILE, or set {CONFIG}"
        draft.problems.append(Problem("configuration", 0, 0, "", message))
    else:
        draft.read(chosen)
    return _finish(draft, overrides or {})


def from_mapping(
    told: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """The settings of a mapping shaped like the file, taken literally: nothing is expanded or included.

    The process's environment has no say unless `environ` is given. Raises ConfigurationInvalid.
    """
    draft = Draft(environ or {}, node_of(told, Place("configuration")))
    return _finish(draft, overrides or {})


def _finish(draft: Draft, overrides: Mapping[str, object]) -> Settings:
    draft.overlay(overrides)
    shape = draft.settle()
    draft.problems += Checks(shape, draft.root, draft.cut).run()
    keys = _read_keys(draft, shape)
    tls, issuers_tls = _read_tls(draft, shape), _read_issuers_tls(draft, shape)
    files = tuple(dict.fromkeys(draft.files))
    if draft.problems:
        raise ConfigurationInvalid(draft.problems, files)
    return with_digest(
        Settings(
            site=compile_site(shape, tls, issuers_tls, compile_grants(shape.grants, draft.root)),
            host=shape.host,
            port=shape.port,
            workers=shape.workers,
            admin_host=shape.admin.host or shape.host,
            admin_port=shape.admin.port,
            redis=MaskedUrl(shape.redis),
            heartbeat_seconds=shape.streams.heartbeat,
            budget_bytes=shape.streams.budget,
            max_orphans=shape.streams.max_orphans,
            drain=Drain(shape.drain.delay, shape.drain.grace),
            auth=None if shape.auth is None else "required" if is_asking(shape.auth) else "none",
            session_keys=keys or (MaskedBytes(secrets.token_bytes(KEY_BYTES)),),
            session_keys_generated=not keys,
            log_level=shape.log.level,
            log_format=shape.log.format,
            files=files,
        )
    )


def _read_keys(draft: Draft, shape: FileShape) -> tuple[MaskedBytes, ...]:
    """The ring, its keys told one by one or in a file; empty where there are none."""
    keys: list[MaskedBytes] = []
    told = [(("session_keys", index), key) for index, text in enumerate(shape.session_keys) for key in split_keys(text)]
    file_loc = ("session_keys_file",)
    if shape.session_keys_file:
        place = draft.root.find(file_loc).place
        target = beside(place, shape.session_keys_file)
        reader = Expander(draft.environ)
        text = reader.read_text(target, place, file_loc)
        draft.files.append(str(target.absolute()))
        draft.problems += reader.problems
        told += [(file_loc, key) for key in split_keys(text)]  # type: ignore[misc]
        if not reader.problems and not split_keys(text):
            draft.problems.append(
                problem_at(place, file_loc, f"{target} holds no key: make one with `mcp-gateway keygen`")
            )
    for number, (loc, text) in enumerate(told, 1):
        try:
            keys.append(parse_key(text))
        except ValueError as error:
            draft.problems.append(problem_at(draft.root.find(loc).place, loc, f"key {number} {error}"))
    return tuple(keys)


def _read_tls(draft: Draft, shape: FileShape) -> dict[str, Tls]:
    """The TLS settings of the backends that have any."""
    certificates = Certificates()
    tls = {
        name: certificates.read(backend.tls, draft.root, ("backends", name, "tls"))
        for name, backend in shape.backends.items()
        if backend.tls.model_fields_set
    }
    draft.problems += certificates.problems
    draft.files += certificates.files
    return tls


def _read_issuers_tls(draft: Draft, shape: FileShape) -> dict[int, Tls]:
    """The same of the issuers, by their place."""
    certificates = Certificates()
    tls = {
        place: certificates.read(issuer.tls, draft.root, ("auth", "issuers", place, "tls"))
        for place, issuer in enumerate(shape.auth.issuers if shape.auth else ())
        if issuer.tls.model_fields_set
    }
    draft.problems += certificates.problems
    draft.files += certificates.files
    return tls
