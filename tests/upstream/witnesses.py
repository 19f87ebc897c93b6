"""A witness that remembers."""


class Memory:
    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def endpoint_ejected(self, backend: str, address: str) -> None:
        self.told.append(("ejected", backend, address))

    def endpoint_restored(self, backend: str, address: str) -> None:
        self.told.append(("restored", backend, address))

    def endpoints_counted(self, backend: str, *, healthy: int, ejected: int) -> None:
        self.told.append(("counted", backend, healthy, ejected))

    def era_found(self, backend: str, era: str, spoken: bool) -> None:
        self.told.append(("era", backend, str(era), spoken))
