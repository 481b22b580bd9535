"""Runs examples/meter_to_sql.py, unchanged, again and again, and kills it or the server at a chosen step.

    reader.py path/to/meter_to_sql.py

Each line of the standard input is an order, its words separated by tabs: victim, step, nth, moment, retries, and then
the arguments of the example. The victim is killed the nth time that the step is taken, at the moment: "before", "sent"
(nobody has looked at the reply yet) or "after". It is the "reader" or the "server", which die by SIGKILL, or the
"link": a reply is lost while both live on. The step "instant" kills the reader after nth milliseconds, wherever it is
then; the victim "nobody" lets it come to its end. Retries is how often the client library sends a command again. The
answer is a line:

    killed    the reader was, at its step
    bounded   it was not, but had begun on enough batches: writers may keep it busy for ever
    away      it ended by itself, for want of a server
    end       it came to its end
    refused:  it ended by itself, and said this
    failed:   anything else
"""

import contextlib
import functools
import importlib.util
import os
import signal
import sqlite3
import sys
import time
import traceback

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

# What is looked for in a command or a statement to know its step.
COMMANDS = {
    b"METER.SEAL": "seal",
    b"WAIT": "wait",
    b"HGETALL": "read",
    b"ZRANGE": "read",
    b"PFCOUNT": "read",
    b"METER.ACK": "ack",
}
STATEMENTS = {"INTO batches": "id", "INTO": "rows"}

MOST_SEALS = 6
HANGS_AFTER = 60  # seconds


class Bounded(BaseException):
    """As sudden as a death, for nothing in the example or below it catches this."""


def step_of(text, names):
    return next((step for name, step in names.items() if name in text), None)


class Fate:
    """When somebody is to be killed."""

    def __init__(self, victim, step, nth, moment):
        self.victim, self.step, self.nth, self.moment = victim, step, nth, moment
        self.seals = 0
        self.server = None

    def meet(self, step, moment):
        if (step, moment) == ("seal", "before") and self.victim != "nobody":
            self.seals += 1
            if self.seals > MOST_SEALS:
                raise Bounded
        if (step, moment) != (self.step, self.moment):
            return
        self.nth -= 1
        if self.nth != 0:
            return
        if self.victim == "reader":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.victim == "server":
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.server, signal.SIGKILL)
        elif self.victim == "link":
            time.sleep(0.02)  # enough for the server to do what it was asked to
            raise redis.ConnectionError("the reply is lost")

    def find_server(self, url):
        """The number of a process that has ended may be another's; a descriptor stays with the one it was opened for,
        and that is the server, for it still answers."""
        with redis.Redis.from_url(url, retry=None, single_connection_client=True) as server:
            self.server = os.pidfd_open(server.info("server")["process_id"])
            server.ping()


class Connection(redis.Connection):
    """Tells the fate of each command."""

    fate = None
    step = None

    def send_packed_command(self, command, check_health=True):
        text = command if isinstance(command, bytes) else b"".join(command)
        self.step = step_of(text, COMMANDS)
        self.fate.meet(self.step, "before")
        super().send_packed_command(command, check_health)
        self.fate.meet(self.step, "sent")

    def read_response(self, *arguments, **options):
        reply = super().read_response(*arguments, **options)
        self.fate.meet(self.step, "after")
        return reply


class Database(sqlite3.Connection):
    """Tells the fate of each statement."""

    fate = None

    def telling(self, step, act):
        if self.fate is None:
            return act()
        self.fate.meet(step, "before")
        result = act()
        self.fate.meet(step, "after")
        return result

    def execute(self, statement, *values):
        return self.telling(step_of(statement, STATEMENTS), lambda: super(Database, self).execute(statement, *values))

    def __exit__(self, kind, *error):
        if kind:
            return super().__exit__(kind, *error)
        return self.telling("commit", lambda: super(Database, self).__exit__(None, None, None))


def live(example, fate, retries, arguments):
    """One run of the example, in a process of its own; how it ended."""
    open_database = example.open_database

    def connect(url, _):
        if fate.victim == "server":
            fate.find_server(url)
        Connection.fate = fate
        retry = Retry(ConstantBackoff(0.01), retries)
        return redis.Redis(connection_pool=redis.ConnectionPool.from_url(url, connection_class=Connection, retry=retry))

    def open_telling_database(path):
        db = open_database(path)
        db.fate = fate
        return db

    example.connect, example.open_database = connect, open_telling_database
    sqlite3.connect = functools.partial(sqlite3.connect, factory=Database)
    try:
        with contextlib.redirect_stdout(None):
            example.main(arguments)
    except Bounded:
        return "bounded"
    except (redis.ConnectionError, redis.TimeoutError, ProcessLookupError):
        return "away"
    except SystemExit as end:
        return f"refused: {end}"
    except BaseException:
        return f"failed: {traceback.format_exc()}".replace("\n", " | ")
    return "end"


def obey(example, order):
    victim, step, nth, moment, retries, *arguments = order.rstrip("\n").split("\t")
    fate = Fate(victim, step, int(nth), moment)
    ear, mouth = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(HANGS_AFTER)
        os.write(mouth, live(example, fate, int(retries), arguments).encode())
        os._exit(0)
    os.close(mouth)
    if step == "instant":
        time.sleep(fate.nth / 1000)
        os.kill(pid, signal.SIGKILL)
    with open(ear, encoding="utf-8") as answers:
        answer = answers.read()
    died_by = -os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return answer or ("killed" if died_by == signal.SIGKILL else f"failed: died by signal {died_by}")


def main():
    spec = importlib.util.spec_from_file_location("example", sys.argv[1])
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with open(0, encoding="utf-8", errors="surrogateescape") as orders:
        for order in orders:
            print(obey(example, order), flush=True)


main()
