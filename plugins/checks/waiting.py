"""Wait for certificates: when to wake the companion, and when to give up."""

from collections.abc import Callable
from dataclasses import dataclass

from checks.companion import Word, read_log, word_on
from checks.visits import Verdict

PAUSE_SECONDS = 2.0
PROGRESS_SECONDS = 20.0
# The companion looks at a new container within twenty seconds of its start.
UNASKED_SECONDS = 25.0
# States from which a container does not come back by itself, unlike "restarting".
ENDED = ("", "created", "exited", "dead", "paused", "removing")
# The companion retries after ten seconds; three failed tries count as a lasting failure.
AWAY_SECONDS = 35.0
# After a reload nginx's old workers may take a few more connections.
SECOND_LOOKS = 3


@dataclass(frozen=True)
class Look:
    """
    One look at the server.

    Parameters
    ----------
    verdicts : list of Verdict
        The result for each site.
    log : str
        The companion's log.
    state : str
        Docker's state of the companion's container, such as ``running``; empty if there is none.
    now : float
        The server's time, in seconds.
    announced : dict of str to float
        When the container that announces an app's domains started, in seconds.
    trouble : str
        Why the companion could not be woken; empty on success.
    """

    verdicts: list[Verdict]
    log: str
    state: str
    now: float
    announced: dict[str, float]
    trouble: str = ""

    @property
    def unfit(self) -> list[str]:
        """Apps that wait for an authority, in order."""
        apps = [v.app for v in self.verdicts if v.unfit and v.tls == "acme"]
        return list(dict.fromkeys(apps))

    def domains(self, app: str) -> list[str]:
        """List the domains of an app."""
        return [v.domain for v in self.verdicts if v.app == app]

    def word(self, app: str, since: float = 0) -> Word | None:
        """Find the companion's last message on an app's certificate since a time."""
        return word_on(app, self.domains(app), read_log(self.log, since))


class Waiting:
    """
    Wait for the certificates of all apps together.

    Parameters
    ----------
    look : callable
        Looks at the server; the argument tells whether to wake the companion first.
    seconds : float
        How long to wait for all of them.
    begun : float
        Start of the run, by the server's clock in seconds. The companion already works on domains
        that were announced since then, and its messages since then count.
    say : callable
        Prints a line of progress.
    clock, sleep : callable
        Return the time in seconds, and wait so long.
    """

    def __init__(
        self,
        look: Callable[[bool], Look],
        seconds: float,
        begun: float,
        say: Callable[[str], None],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._look, self._seconds, self._begun, self._say = look, seconds, begun, say
        self._clock, self._sleep = clock, sleep
        self._since: dict[str, float] = {}
        self._away: dict[str, float] = {}
        self._woken = False
        #: The companion's messages on the apps that end up without a certificate.
        self.words: dict[str, Word] = {}

    def run(self) -> Look:
        """Wait, and return the last look."""
        found = self._wait()
        for app in found.unfit:
            word = found.word(app, self._since.get(app, found.now))
            if word and word.kind == "got":
                self.words[app] = word
        for _ in range(SECOND_LOOKS):
            if not any(v.fails and not (v.unfit and v.tls == "acme") for v in found.verdicts):
                break
            self._sleep(PAUSE_SECONDS)
            found = self._look(False)
        return found

    def _wait(self) -> Look:
        start = self._clock()
        found = self._look(False)
        for app in found.unfit:
            announced = found.announced.get(app, 0)
            fresh = 0 < self._begun <= announced
            self._since[app] = announced if fresh else found.now
        if not self._since:
            return found
        if any(since == found.now for since in self._since.values()):
            found = self._wake()
        told = start
        while self._goes_on(found, self._clock() - start):
            if self._clock() - told >= PROGRESS_SECONDS:
                told = self._clock()
                self._say(self._progress(found, told - start))
            self._sleep(PAUSE_SECONDS)
            asked = self._clock() - start > UNASKED_SECONDS
            unheard = [app for app in found.unfit if found.word(app, self._since[app]) is None]
            found = self._wake() if asked and unheard and not self._woken else self._look(False)
        return found

    def _wake(self) -> Look:
        self._woken = True
        return self._look(True)

    def _goes_on(self, found: Look, elapsed: float) -> bool:
        """Tell whether a certificate may still come, and keep the messages on the others."""
        hope = False
        for app in found.unfit:
            since = self._since.setdefault(app, found.now)
            word = found.word(app, since)
            if word and word.failed:
                self.words[app] = word
            if app in self.words and self.words[app].kind != "away":
                continue
            if word and word.kind == "away":
                first = self._away.setdefault(app, elapsed)
                hope |= elapsed - first < AWAY_SECONDS
            else:
                self._away.pop(app, None)
                hope = True
        hope &= found.state not in ENDED
        return hope and elapsed < self._seconds

    def _progress(self, found: Look, elapsed: float) -> str:
        domains = ", ".join(domain for app in found.unfit for domain in found.domains(app))
        return f"Waiting for the certificates of {domains} ({elapsed:.0f} of {self._seconds:.0f} s)"
