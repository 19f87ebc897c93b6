"""The whole examination, in the order in which a client meets things; what would say nothing any more is left out."""

import ssl

from gateway.commands.diagnosis.certificates import check_scheme, check_tls
from gateway.commands.diagnosis.findings import Chart
from gateway.commands.diagnosis.handshakes import check_end, check_handshakes, check_session
from gateway.commands.diagnosis.networks import reach
from gateway.commands.diagnosis.questions import Asker
from gateway.commands.diagnosis.streams import check_listen, check_stream
from gateway.commands.diagnosis.surroundings import check_browser, check_login, check_slash
from gateway.commands.diagnosis.targets import Target


async def examine(target: Target, chart: Chart, trust: ssl.SSLContext, timeout_seconds: float, origin: str) -> None:
    """Fills the chart. `origin` is the web page on whose behalf CORS is tried."""
    address = await reach(target, chart, timeout_seconds)
    if address is None or not await check_tls(target, chart, address, trust, timeout_seconds):
        return
    async with Asker(target, timeout_seconds, trust) as asker:
        if not await _examine_endpoint(asker, chart, origin) and not target.is_tls:
            await check_scheme(target, chart, address, timeout_seconds)


async def _examine_endpoint(asker: Asker, chart: Chart, origin: str) -> bool:
    """Whether it answers at all."""
    modern, legacy = await check_handshakes(asker, chart)
    replies = [knocked.reply for knocked in (modern, legacy) if knocked.reply is not None]
    if not replies:
        return False
    if modern.is_spoken:
        await check_listen(asker, chart)
    session = await check_session(asker, chart, legacy)
    if session is not None:
        await check_stream(asker, chart, session)
        await check_end(asker, chart, session)
    if modern.is_spoken or legacy.is_spoken:
        await check_slash(asker, chart, modern if modern.is_spoken else legacy)
        await check_browser(asker, chart, origin)
    await check_login(asker, chart, replies)
    return True
